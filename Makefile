# mdlm — masked diffusion language models on MPI ranks.  `make help` lists the targets and variables.
##: V=1             print whole commands
##: BUILD=build     folder of what is built
##: CC=mpicc        MPI compiler wrapper
##: ARCH=native     processor (-march) to build for
##: WERROR=1        warnings are errors
##: SANITIZE=address,undefined   build with sanitizers
##: PREFIX=/usr/local DESTDIR=   where install puts things
##: VENV=.venv      the Python environment
##: CUDA=0          leave the CUDA backend out
##: CUDA_HOME= CUDA_ARCHS="80 90"   which toolkit, for which GPUs
SHELL  := /bin/bash
BUILD  ?= build
CC     := $(if $(filter default undefined,$(origin CC)),mpicc,$(CC))
ARCH   ?= native
PREFIX ?= /usr/local
VENV   ?= .venv
PY     := $(VENV)/bin/python

# ---- what the libraries ask for; each can be given on the command line instead
HDF5_CFLAGS   ?= $(shell pkg-config --cflags hdf5-openmpi 2>/dev/null || pkg-config --cflags hdf5 2>/dev/null)
HDF5_LIBS     ?= $(shell pkg-config --libs hdf5-openmpi 2>/dev/null || pkg-config --libs hdf5 2>/dev/null || echo -lhdf5)
CONFIG_CFLAGS ?= $(shell pkg-config --cflags libconfig 2>/dev/null)
CONFIG_LIBS   ?= $(shell pkg-config --libs libconfig 2>/dev/null || echo -lconfig)
DNNL_LIBS     ?= -ldnnl
XXHASH_LIBS   ?= -lxxhash
$(foreach v,HDF5_CFLAGS HDF5_LIBS CONFIG_CFLAGS CONFIG_LIBS,$(eval $v := $($v))) # asked once, not in each recipe

CFLAGS   ?= -O3 -g
WARN     := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes $(if $(WERROR),-Werror)
SAN      := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer)
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -Isrc -I$(BUILD) $(CFLAGS) -march=$(ARCH) -fopenmp -fno-math-errno -fno-trapping-math $(WARN) $(SAN) $(HDF5_CFLAGS) $(CONFIG_CFLAGS)
LDLIBS   = $(SAN) -fopenmp -rdynamic $(HDF5_LIBS) $(CONFIG_LIBS) $(DNNL_LIBS) $(XXHASH_LIBS) -lmvec -lm -lpthread -ldl

# ---- sources: a room is a folder; ops/cpu is built once in float and once in double
ROOMS    := base ops dist store model diffusion network sampling measure train cmd
SRC      := $(foreach r,$(ROOMS),$(sort $(wildcard src/$r/*.c)))
CPU_SRC  := $(sort $(wildcard src/ops/cpu/*.c))
OBJ      := $(SRC:src/%.c=$(BUILD)/%.o) $(CPU_SRC:src/ops/cpu/%.c=$(BUILD)/ops/cpu/%_f32.o) $(CPU_SRC:src/ops/cpu/%.c=$(BUILD)/ops/cpu/%_f64.o)
LIB      := $(BUILD)/libmdlm.a
# all of it, for programs that may load the CUDA backend's library: what that asks for has to be there
WHOLE_LIB = -Wl,--whole-archive $(LIB) -Wl,--no-whole-archive
TEST_SRC := $(sort $(wildcard tests/unit/*.c tests/ops/*.c tests/grad/*.c tests/mpi/*.c tests/golden/*.c))
TESTS    := $(TEST_SRC:tests/%.c=$(BUILD)/tests/%)
TEST_LD  := $(if $(shell command -v ld.gold),-fuse-ld=gold) # links the many test programs in a third of the time
NAP      := $(BUILD)/tests/nap.so
TEST_O    = -O1 # compiles them in a third of the time; what they test is compiled as ever
TEST_LIB := $(patsubst tests/%.c,$(BUILD)/tests/%.o,$(filter-out tests/nap.c,$(wildcard tests/*.c)))

# ---- a short line for each step: "CC src/main.c"; V=1 shows the commands, -s nothing
Q        := $(if $(V),,@)
say       = $(if $(V)$(findstring s,$(firstword -$(MAKEFLAGS))),,@printf '%-5s %s\n' '$1' '$2')

.DEFAULT_GOAL := all
include cuda/build.mk

.PHONY: all help info setup demo smoke compare check check-long check-arch bench bench-sampling bench-peer bench-plan check-cuda bench-cuda pack-cuda rules lint format install clean FORCE
.DELETE_ON_ERROR:
.SECONDARY:

##@ Build
all: $(BUILD)/mdlm $(BUILD)/mdlm.1 $(CUDA_SO) ## the program and its man page; the CUDA backend where nvcc, cuBLASLt and NCCL are

$(BUILD)/mdlm: $(BUILD)/main.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $(filter-out $(LIB),$^) $(WHOLE_LIB) $(LDLIBS) -Wl,-rpath,'$$ORIGIN:$$ORIGIN/../lib'
# from the program itself; a program for another processor does not run here, and goes without
$(BUILD)/mdlm.1: $(BUILD)/mdlm
	$(call say,MAN,$@)
	$(Q)$< help --man > $@.new && mv $@.new $@ || { rm -f $@.new; echo "no man page: $< does not run here" >&2; }
$(LIB): $(OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^
$(BUILD)/ops/cpu/%_f32.o: src/ops/cpu/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/ops/cpu/%_f64.o: src/ops/cpu/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$< (f64))
	$(Q)$(CC) $(ALL_CFLAGS) -DREAL=double -MMD -MP -c -o $@ $<
# nothing but multiply-adds, which ISO C mode and -O1 would leave apart
$(BUILD)/ops/cpu/scan_%.o $(BUILD)/ops/cpu/gemm_f32.o: ALL_CFLAGS += -ffp-contract=fast -fexpensive-optimizations
$(BUILD)/tests/%.o: tests/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) $(TEST_O) -Itests -MMD -MP -c -o $@ $<
# measurements are compiled as the program is; test_gemm computes for longer than it compiles
$(BUILD)/tests/bench/%.o $(BUILD)/tests/cuda/bench_ops.o $(BUILD)/tests/unit/test_gemm.o: TEST_O =
$(BUILD)/tests/%: $(BUILD)/tests/%.o $(TEST_LIB) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $^ $(TEST_LD) $(LDLIBS) -lcmocka
$(NAP): tests/nap.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(filter-out $(SAN),$(ALL_CFLAGS)) -fPIC -shared -o $@ $<
BENCH_SRC := $(filter-out tests/bench/bench_sampling.c,$(wildcard tests/bench/*.c))
$(BUILD)/bench: $(BENCH_SRC:tests/%.c=$(BUILD)/tests/%.o) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $(filter-out $(LIB),$^) $(WHOLE_LIB) $(LDLIBS) -Wl,-rpath,'$$ORIGIN'
$(BUILD)/bench_sampling: $(BUILD)/tests/bench/bench_sampling.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $^ $(LDLIBS)
$(BUILD)/%.o: src/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# ---- rebuilt when the flags or the revision change
$(BUILD)/flags: FORCE
	@mkdir -p $(@D); echo '$(CC) $(ALL_CFLAGS)' | cmp -s - $@ || echo '$(CC) $(ALL_CFLAGS)' > $@
$(BUILD)/version.gen.h: FORCE
	@mkdir -p $(@D); { echo '#define VERSION_GIT "$(shell git describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)"'; \
	  echo '#define VERSION_BUILD "$(shell $(CC) --version 2>/dev/null | head -1) -march=$(ARCH) $(CFLAGS)"'; } > $@.new; \
	cmp -s $@.new $@ && rm $@.new || mv $@.new $@
$(BUILD)/base/version.o: $(BUILD)/version.gen.h

##@ About
help: ## this list
	@awk '/^##@ / { print (groups++ ? "\n" : "") substr($$0, 5) } \
	  /^##: / { variables = variables "\n  " substr($$0, 5) } \
	  match($$0, /^[a-z-]+:.*## /) { \
	    n = split(substr($$0, RLENGTH + 1), word, " "); \
	    line = sprintf("  %-15s", substr($$0, 1, index($$0, ":") - 1)); \
	    for (i = 1; i <= n; i++) { \
	      if (length(line) + length(word[i]) >= 80) { print line; line = sprintf("%17s", "") } \
	      line = line " " word[i] } \
	    print line } \
	  END { print "\nVariables" variables }' Makefile cuda/build.mk

info: ## what was found: compilers, libraries, devices
	@NVCC="$(NVCC)" CUDA_HOME="$(CUDA_HOME)" CUDA_ARCHS="$(CUDA_ARCHS)" HAS_CUDA="$(HAS_CUDA)" tests/probe.sh "$(CC)" "$(PY)" "$(HDF5_LIBS)"

##@ Use
setup: ## install what is missing: Debian packages, the Python environment for data and analysis
	@input/setup.sh "$(VENV)"

demo: ## a whole run on a real corpus: prepare, train on two ranks, evaluate, sample, report (CORPUS=my.txt: your text)
	@$(MAKE) --no-print-directory setup
	@$(MAKE) --no-print-directory -s -j$$(nproc) all
	@BUILD="$(BUILD)" PY="$(PY)" CORPUS="$(CORPUS)" input/demo.sh

smoke: ## train, sample and evaluate every deck of input/smoke on two ranks, in seconds each
	@$(MAKE) --no-print-directory setup
	@$(MAKE) --no-print-directory -s -j$$(nproc) all
	@BUILD="$(BUILD)" PY="$(PY)" input/smoke.sh

compare: ## table of perplexities of all objectives and networks on the demo's corpus; some 20 minutes
	@$(MAKE) --no-print-directory setup
	@$(MAKE) --no-print-directory -s -j$$(nproc) all
	@BUILD="$(BUILD)" PY="$(PY)" input/compare.sh

##@ Test and measure
check: ## every test; ends with N passed, N failed, N skipped
	@$(MAKE) --no-print-directory setup
	@$(MAKE) --no-print-directory -s -j$$(nproc) all tests WERROR=1
	@BUILD="$(BUILD)" PY="$(PY)" tests/run.sh

check-long: ## check with more draws, more orders of emulated threads, and builds for other processors
	@$(MAKE) --no-print-directory setup
	@$(MAKE) --no-print-directory -s -j$$(nproc) all tests WERROR=1
	@LONG=1 BUILD="$(BUILD)" PY="$(PY)" tests/run.sh

check-arch: ## of check-long, the C programs as on lesser processors: built for x86-64-v2 and v3, with one thread and two
	@$(MAKE) --no-print-directory setup
	@$(MAKE) --no-print-directory -s -j$$(nproc) tests WERROR=1
	@LONG=1 BUILD="$(BUILD)" PY="$(PY)" tests/run.sh x86-64- native/

.PHONY: tests
tests: $(TESTS) $(NAP) $(EMULATED) $(BUILD)/tests/cuda/compare $(BUILD)/mdlm $(if $(CUDA_SO),$(CHECK_CUDA) $(BENCH_CUDA)) ## build the test programs

bench: $(BUILD)/bench ## tokens/s, GFLOP/s, time of each op and its ratio to the floor
	@BUILD="$(BUILD)" tests/bench.sh

bench-sampling: $(BUILD)/bench_sampling ## time of each sampler, beside caching as the reference does it; some 4 minutes (TOKENS=thousands per run, 0: whole runs)
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-$$(nproc)} $< $(TOKENS)

bench-peer: $(BUILD)/bench ## training speed beside PyTorch's on this processor, in 3 rounds; installs PyTorch (some GB) the first time (SHAPES="tiny:16")
	@$(MAKE) --no-print-directory setup
	@"$(PY)" -c 'import torch' 2>/dev/null || "$(PY)" -m pip install --disable-pip-version-check -e 'input[peer]'
	@BUILD="$(BUILD)" PEER="$(PY)" tests/bench_peer.sh $(SHAPES)

bench-plan: $(BUILD)/mdlm ## the step that mdlm check predicts for 2 and 4 ranks beside measured ones, on data of make demo
	@BUILD="$(BUILD)" tests/bench_plan.sh input/demo.cfg model.width=256 train.micro_batch=32 train.global_batch=512

rules: ## check which room includes which (src/RULES)
	@awk -f tests/rules.awk src/RULES $$(find src cuda 2>/dev/null -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.def' | sort)

lint: ## check Python (ruff), shell scripts (shellcheck) and the layout of C and CUDA sources (clang-format)
	@PY="$(PY)" tests/unit/lint_test.sh
	@tests/unit/format_test.sh

format: ## lay out C and CUDA sources (clang-format) and Python (ruff)
	clang-format -i $$(git ls-files '*.c' '*.h' '*.cu' '*.cuh')
	$(PY) -m ruff format --config input/pyproject.toml $$(git ls-files '*.py')

##@ Install
HOME_DIR = $(abspath $(PREFIX))/share/mdlm
SHARE    = $(DESTDIR)$(HOME_DIR)
install: all ## program, man page, decks, Python commands, Slurm scripts and READMEs under $(DESTDIR)$(PREFIX)
	install -Dm755 $(BUILD)/mdlm $(DESTDIR)$(PREFIX)/bin/mdlm
	[ ! -f "$(BUILD)/mdlm.1" ] || install -Dm644 $(BUILD)/mdlm.1 $(DESTDIR)$(PREFIX)/share/man/man1/mdlm.1
	$(if $(CUDA_SO),[ ! -f "$(CUDA_SO)" ] || install -Dm755 $(CUDA_SO) $(DESTDIR)$(PREFIX)/lib/libmdlm_cuda.so)
	for d in . sizes objectives recipes smoke sweeps; do install -Dm644 -t $(SHARE)/input/$$d input/$$d/*.cfg; done
	install -Dm644 -t $(SHARE) README.md CHANGELOG LICENSE
	for d in input analysis slurm; do install -Dm644 -t $(SHARE)/$$d $$d/README.md; done
	for f in env.sh job.sh $(notdir $(wildcard slurm/*.sbatch)); do sed $(PLACES) slurm/$$f | \
	  install -Dm644 /dev/stdin $(SHARE)/slurm/$$f.new; done
	cd $(SHARE)/slurm; for f in *.new; do old=$${f%.new}; \
	  if [ $$old != env.sh ] || [ ! -e env.sh ] || cmp -s $$f env.sh; then mv $$f $$old; \
	  else echo "$(SHARE)/slurm/env.sh is kept; the new one is env.sh.new"; fi; done
	install -Dm644 -t $(SHARE)/python/mdlm_data input/mdlm_data/*.py
	install -Dm644 -t $(SHARE)/python/mdlm_data/forms input/mdlm_data/forms/*.py
	install -Dm644 -t $(SHARE)/python/mdlm_analysis analysis/mdlm_analysis/*.py $(addprefix analysis/mdlm_analysis/report.,html css js)
	install -Dm644 -t $(SHARE)/python analysis/mdlm_h5.py
	sed -n 's/^dependencies = //p' input/pyproject.toml analysis/pyproject.toml | grep -o '"[a-z0-9]*>=[^"]*"' | tr -d '"' | sort -u | \
	  install -Dm644 /dev/stdin $(SHARE)/python/requirements.txt
	for command in $(COMMANDS); do sed "s/@MODULE@/$${command#*=}/" input/launcher.sh | \
	  install -Dm755 /dev/stdin $(DESTDIR)$(PREFIX)/bin/$${command%=*}; done
# command=module, from the pyprojects
COMMANDS = $(shell sed -n 's/^\(mdlm-[a-z]*\) = "\(.*\):main"$$/\1=\2/p' input/pyproject.toml analysis/pyproject.toml)
# where the Slurm scripts find what is installed, instead of in the directory of sbatch
PLACES = -e 's|{MDLM_HOME:-[^}]*}|{MDLM_HOME:-$(HOME_DIR)}|' -e 's|{BUILD:-[^}]*}|{BUILD:-$(abspath $(PREFIX))/bin}|'

clean: ## remove what was built
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
