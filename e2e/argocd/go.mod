// What runs a health check of Argo CD's outside of Argo CD.
module capf.dev/argocd

go 1.24.0

require github.com/yuin/gopher-lua v1.1.1
