# Havre: build, try, test. `make demo` and `make test` install the Debian packages they need.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PREFIX ?= /usr/local
CARGO ?= cargo
BINARIES := havre havred containerd-shim-havre-v2 havre-log havre-net havre-runtime havre-init
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
HOST := $(shell rustc -vV | sed -n 's/^host: //p')
RELEASE := $(TARGET_DIR)/$(HOST)/release
DEBUG := $(TARGET_DIR)/$(HOST)/debug
PACKAGES := $(foreach binary,$(BINARIES),--package $(binary))

.PHONY: help build demo test lint bench install

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

build: ## build the programs, optimised
	$(CARGO) build --release $(PACKAGES)

demo: ## the main job in one command: registry, image, engine, container
	$(CARGO) build --release $(PACKAGES) --package havre-testkit
	@$(RELEASE)/testkit packages
	@scripts/demo $(RELEASE)

test: ## the whole suite, against the real kernel and the real docker CLI (root)
	$(CARGO) build --workspace --bins
	@$(DEBUG)/testkit packages
	$(CARGO) test --workspace

lint: ## formatting, clippy, and the project's own checks
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- --deny warnings
	$(CARGO) xtask tidy

bench: build ## side by side with crun, runc, docker and podman, as installed
	$(CARGO) build --release --package havre-testkit
	@$(RELEASE)/testkit packages
	@bench/run $(RELEASE)
	@bench/scale $(RELEASE)

install: build ## install the programs below PREFIX (/usr/local)
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 0755 $(addprefix $(RELEASE)/,$(BINARIES)) $(DESTDIR)$(PREFIX)/bin
