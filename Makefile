.PHONY: generate
generate: ## Make the generated files anew: crds/ and docs/cli.md
	cargo run --quiet -- crds --output crds
	mkdir -p docs && cargo run --quiet -- cli-reference > docs/cli.md
