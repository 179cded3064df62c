# The front door. Everything of substance is in CMakeLists.txt and the scripts called here.
#
#   make demo      install what is missing, build, run real programs in the sandbox; ENGINE=kvm or
#                  ENGINE=jit instead of what the machine is best at
#   make test      install what is missing, build, run the whole suite
#   make tidy      install what is missing, run clang-tidy over all sources: more than an hour
#   make bench     measure programs, servers, plugins and many instances, natively, here and in what others have made
#   make bench-lab count exits and instructions of single operations on emulated hardware
#   make deb       Debian packages of it, in build/release/packages
#   make           build (after `make deps`); make install PREFIX=/usr/local
PREFIX ?= /usr/local
PRESET ?= release
ENGINE ?= auto
JOBS ?= $(shell nproc)
REPEAT ?= 3
BUILD := build/$(PRESET)

.PHONY: all deps configure demo test tidy bench bench-lab deb install clean

all: configure
	cmake --build $(BUILD) --parallel $(JOBS)

configure:
	cmake --preset $(PRESET)

deps:
	.ci/deps build demo test

demo:
	.ci/deps build demo
	$(MAKE) configure
	cmake --build $(BUILD) --parallel $(JOBS) --target dunebox
	DUNEBOX=$(BUILD)/dunebox tests/demo/run $(ENGINE)

test:
	.ci/deps build demo test
	$(MAKE) all
	tests/suite $(BUILD) --parallel $$(($(JOBS) + 1))  # one more: tests wait as much as they work

tidy:
	.ci/deps build tidy
	tests/tidy

bench:
	.ci/deps build bench
	$(MAKE) all
	cmake --build $(BUILD) --parallel $(JOBS) --target benchmarks
	tests/bench/run $(BUILD) --everything --repeat $(REPEAT) \
	  --json $(BUILD)/bench.json --markdown $(BUILD)/bench.md --chart $(BUILD)/bench.svg
	tests/bench/examples $(BUILD) --repeat $(REPEAT)

bench-lab:
	.ci/deps build bench
	$(MAKE) configure
	cmake --build $(BUILD) --parallel $(JOBS) --target dunebox bench_operations bench_true_static dune_operations gc \
	  plugin_operations plugin_cases
	tests/bench/lab/run_dune $(BUILD)
	tests/bench/lab/run_plugins $(BUILD)
	tests/bench/lab/run $(BUILD) --json $(BUILD)/bench-lab.json --markdown $(BUILD)/bench-lab.md

deb:
	.ci/deps build demo package
	$(MAKE) all
	cpack --config $(BUILD)/CPackConfig.cmake -B $(BUILD)/packages
	ls $(BUILD)/packages/*.deb

install: all
	cmake --install $(BUILD) --prefix $(PREFIX)

clean:
	rm -rf build
