// Package helm has no code: go.mod names the program that is built, a tool of this module.
package helm
