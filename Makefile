# SPDX-License-Identifier: Apache-2.0
# A front to Meson and to tools/: `make help`. Every target starts from a clean clone with nothing prepared.
.DEFAULT_GOAL := build

BUILD ?= build
PREFIX ?= /usr/local
DESTDIR ?=
SOURCES = git ls-files '*.c' '*.h' '*.cpp'

.PHONY: bootstrap
bootstrap: ## install the Debian packages that are missing
	@tools/bootstrap

.PHONY: build
build: bootstrap ## build all (the default)
	@tools/configure $(BUILD) --prefix=$(PREFIX)
	@ninja -C $(BUILD) --quiet

.PHONY: test
test: build ## build, and run all tests
	@tools/test $(BUILD)

.PHONY: conformance
conformance: build ## run PyTorch's own tests over Tendril: ARGS="--fork -k REGEX" and so on, see tools/conformance --help
	@tools/conformance $(BUILD) $(ARGS)

.PHONY: check
check: build ## the whole gate: format, static checks, documents, ABI, sanitizers, fuzzing
	@tools/check

.PHONY: demo
demo: build ## build, and run the demonstration
	@tools/demo

.PHONY: sim
sim: build ## simulate the reference protocol: SEEDS=n FIRST=s, or SEED=n TRACE=1 to replay one
	@$(BUILD)/tests/sim/sim $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),2000) --first $(or $(FIRST),1)) $(if $(TRACE),--trace)

.PHONY: bench
bench: build ## build, and run the benchmarks
	@tools/bench $(BUILD)

.PHONY: coverage
coverage: bootstrap ## run the tests, and report which branches they take: build-coverage/coverage/index.html
	@tools/coverage

.PHONY: install
install: build ## install; DESTDIR= and PREFIX= say where
	@meson install -C $(BUILD) --no-rebuild --quiet $(if $(DESTDIR),--destdir "$(abspath $(DESTDIR))")

.PHONY: format
format: bootstrap ## format all C sources in place
	@$(SOURCES) | xargs clang-format -i

.PHONY: docs
docs: bootstrap ## write docs/api anew from the public headers
	@tools/api-docs

.PHONY: abi-baseline
abi-baseline: build ## write tests/abi anew: at a release
	@tools/check-abi --write $(BUILD)

.PHONY: clean
clean: ## remove all build directories
	@rm -rf $(BUILD) build-*/

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24
