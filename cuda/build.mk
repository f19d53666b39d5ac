# build.mk — the CUDA backend, compiled by nvcc if the toolkit is installed, and by the C++ compiler for the tests' emulation.
# Variables: CUDA=0 (leave it out)  CUDA_HOME  CUDA_ARCHS="80 90" (the driver compiles the last one's PTX for newer GPUs).
# Libraries in other folders are found through CPATH and LIBRARY_PATH.
NVCC       := $(if $(filter 0,$(CUDA)),,$(firstword $(shell command -v $(if $(CUDA_HOME),$(CUDA_HOME)/bin/nvcc,nvcc /usr/local/cuda/bin/nvcc))))
CUDA_HOME  ?= $(patsubst %/bin/,%,$(dir $(NVCC)))
CUDA_ARCHS ?= 80 90
has         = $(firstword $(wildcard $(addsuffix /$1,$(CUDA_HOME)/include $(subst :, ,$(CPATH)) /usr/include /usr/include/*-linux-gnu)))
HAS_CUDNN  := $(if $(NVCC),$(call has,cudnn.h))
HAS_CUDA   := $(if $(NVCC),$(and $(call has,cublasLt.h),$(call has,nccl.h)))

CU_SRC     := $(sort $(wildcard cuda/*.cu))
CU_OBJ     := $(CU_SRC:cuda/%.cu=$(BUILD)/cuda/%.o)
CU_FLAGS    = -std=c++20 -O3 -lineinfo -Isrc -Icuda $(if $(HAS_CUDNN),-DHAVE_CUDNN) $(MPI_CFLAGS) -Xcompiler -fPIC,-Wall,-Wextra \
              $(if $(WERROR),-Werror all-warnings) $(foreach a,$(CUDA_ARCHS),-gencode=arch=compute_$a,code=sm_$a) \
              $(foreach a,$(lastword $(CUDA_ARCHS)),-gencode=arch=compute_$a,code=compute_$a)
CUDA_LIBS   = -L$(CUDA_HOME)/lib64 -Wl,-rpath,$(CUDA_HOME)/lib64 -lcublasLt -lnccl $(if $(HAS_CUDNN),-lcudnn) -lcudart -lstdc++
MPI_CFLAGS ?= $(filter -I%,$(shell $(CC) --showme:compile 2>/dev/null || $(CC) -compile-info 2>/dev/null))
# the backend is a library beside the program, which loads it for device.name = cuda
CUDA_SO    := $(if $(HAS_CUDA),$(BUILD)/libmdlm_cuda.so)

$(BUILD)/libmdlm_cuda.so: $(CU_OBJ)
	$(call say,LD,$@)
	$(Q)$(CC) -shared -o $@ $^ $(CUDA_LIBS)
.PHONY: cuda-flags cuda-objects
cuda-objects: $(CU_OBJ) # each leaves what the compiler says in a .log, which tests/cuda/compile_test.sh reads
cuda-flags: # the compiler and its flags
	@echo '$(if $(NVCC),$(NVCC) $(CU_FLAGS))'
$(BUILD)/cuda/%.o: cuda/%.cu $(BUILD)/cuda.flags
	@mkdir -p $(@D)
	$(call say,NVCC,$<)
	$(Q)rm -f $@; $(NVCC) $(CU_FLAGS) -Xptxas -v -MMD -MP -MF $(@:.o=.d) -c -o $@ $< > $(@:.o=.log) 2>&1; code=$$?; \
	grep -vE '^ptxas info|^ +[0-9]+ bytes stack frame' $(@:.o=.log) >&2; exit $$code
$(BUILD)/cuda.flags: FORCE
	@mkdir -p $(@D); echo '$(NVCC) $(CU_FLAGS)' | cmp -s - $@ || echo '$(NVCC) $(CU_FLAGS)' > $@

# ---- the emulation: the same sources compiled for the CPU, linked with the program, the bench and the tests of ops
CXX        := $(if $(filter default undefined,$(origin CXX)),g++,$(CXX))
EMU_OBJ    := $(CU_SRC:cuda/%.cu=$(BUILD)/emulated/cuda/%.o)
# a misaligned pack, which would be an error on a GPU, ends the process
EMU_TRAPS   = -fsanitize=alignment,bounds,shift,signed-integer-overflow -fsanitize-undefined-trap-on-error
EMU_FLAGS   = $(EMU_TRAPS) -std=c++20 -Isrc -Icuda -Itests -O2 -g1 -fno-strict-aliasing $(MPI_CFLAGS) -Wall -Wextra -Wshadow $(if $(WERROR),-Werror) $(SAN)
# the tests linked with a device: those of ops, a whole step, block diffusion, the distribution of samples
EMU_MPI    := $(addprefix $(BUILD)/emulated/tests/,test_device_comm test_reduce test_shard)
ON_DEVICE  := $(notdir $(basename $(wildcard tests/ops/test_*.c tests/cuda/test_*.c))) test_blocks test_sampler_ancestral test_sampler_ar test_sampler_cached test_guidance
EMULATED   := $(addprefix $(BUILD)/emulated/,mdlm bench bench_ops tests/test_emulation tests/test_attention_cudnn) $(EMU_MPI) $(ON_DEVICE:%=$(BUILD)/emulated/tests/%)

$(BUILD)/emulated/cuda/%.o: cuda/%.cu $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CXX,$<)
	$(Q)$(CXX) $(EMU_FLAGS) -MMD -MP -x c++ -c -o $@ $<
$(BUILD)/emulated/mdlm: $(BUILD)/main.o $(EMU_OBJ) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $^ $(LDLIBS) -lstdc++
$(BUILD)/emulated/bench: $(addprefix $(BUILD)/tests/bench/,bench.o alone.o median.o samples.o) $(EMU_OBJ) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $^ $(LDLIBS) -lstdc++
$(BUILD)/emulated/bench_ops: $(BUILD)/tests/cuda/bench_ops.o $(BUILD)/tests/bench/median.o $(EMU_OBJ) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $^ $(LDLIBS) -lstdc++
$(BUILD)/emulated/tests/test_emulation.o: tests/emulation/test_emulation.cu $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CXX,$<)
	$(Q)$(CXX) $(EMU_FLAGS) -MMD -MP -x c++ -c -o $@ $<
$(BUILD)/emulated/tests/test_emulation: $(BUILD)/emulated/tests/test_emulation.o $(EMU_OBJ) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $^ $(LDLIBS) -lstdc++

# the test of attention with the calls to cuDNN, whose plans a stand-in computes
EMU_CUDNN  := $(BUILD)/emulated/cudnn/attention_cudnn.o $(BUILD)/emulated/cudnn/attention_graph_on_cpu.o
$(EMU_CUDNN): $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CXX,$(filter %.cu,$^))
	$(Q)$(CXX) $(EMU_FLAGS) -DHAVE_CUDNN -MMD -MP -x c++ -c -o $@ $(filter %.cu,$^)
$(BUILD)/emulated/cudnn/attention_cudnn.o: cuda/attention_cudnn.cu
$(BUILD)/emulated/cudnn/attention_graph_on_cpu.o: tests/emulation/attention_graph_on_cpu.cu
$(BUILD)/emulated/tests/test_attention_cudnn: $(BUILD)/tests/ops/test_attention.o $(BUILD)/tests/emulation/device.o $(EMU_CUDNN) \
  $(filter-out %/attention_cudnn.o %/attention_graph.o,$(EMU_OBJ)) $(TEST_LIB) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $^ $(TEST_LD) $(LDLIBS) -lcmocka -lstdc++

# a program of tests/{ops,cuda,unit,grad,mpi}, linked with the emulation and with the GPU backend
define on_device
$(BUILD)/emulated/tests/%: $(BUILD)/tests/$1/%.o $(BUILD)/tests/emulation/device.o $(EMU_OBJ) $(TEST_LIB) $(LIB)
	@mkdir -p $$(@D)
	$$(call say,LD,$$@)
	$$(Q)$$(CC) -o $$@ $$^ $$(TEST_LD) $$(LDLIBS) -lcmocka -lstdc++
$(BUILD)/gpu/tests/%: $(BUILD)/tests/$1/%.o $(BUILD)/tests/cuda/device.o $(TEST_LIB) $(LIB) | $(CUDA_SO)
	@mkdir -p $$(@D)
	$$(call say,LD,$$@)
	$$(Q)$$(CC) -o $$@ $$(filter-out $$(LIB),$$^) $$(WHOLE_LIB) $(TEST_LD) $$(LDLIBS) -lcmocka -Wl,-rpath,'$$$$ORIGIN/../..'
endef
$(foreach d,ops cuda unit grad mpi,$(eval $(call on_device,$d)))

# ---- for users with a GPU
CHECK_CUDA  = $(CUDA_SO) $(BUILD)/mdlm $(ON_DEVICE:%=$(BUILD)/gpu/tests/%) $(BUILD)/gpu/tests/test_device_comm $(BUILD)/tests/cuda/compare
BENCH_CUDA  = $(CUDA_SO) $(BUILD)/mdlm $(BUILD)/bench $(BUILD)/bench_ops
quiet_make := $(MAKE) --no-print-directory -s -j$(shell nproc) WERROR=1

$(BUILD)/bench_ops: $(BUILD)/tests/cuda/bench_ops.o $(BUILD)/tests/bench/median.o $(LIB) | $(CUDA_SO)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $(filter-out $(LIB),$^) $(WHOLE_LIB) $(LDLIBS) -Wl,-rpath,'$$ORIGIN'

.PHONY: cuda-toolkit
cuda-toolkit:
	$(if $(CUDA_SO),@:,@echo "the CUDA backend cannot be built here; make info lists what is missing"; exit 1)

##@ On a machine with a GPU
check-cuda: cuda-toolkit ## compare every op, whole steps and loss curves with the CPU; resuming, memory errors
	@MODE=gpu tests/cuda/check.sh present
	@$(MAKE) --no-print-directory setup
	@$(quiet_make) $(CHECK_CUDA)
	@MODE=gpu BUILD="$(BUILD)" PY="$(PY)" tests/cuda/check.sh

bench-cuda: cuda-toolkit ## speed of each op and of whole steps, beside PyTorch's (PYTHON=: one with torch)
	@MODE=gpu tests/cuda/check.sh present
	@$(quiet_make) $(BENCH_CUDA)
	@BUILD="$(BUILD)" tests/cuda/bench.sh

pack-cuda: cuda-toolkit ## both as a folder build/pack-cuda, to copy to a machine that lacks our libraries; run.sh runs it
	@$(MAKE) --no-print-directory setup
	@$(quiet_make) BUILD="$(BUILD)-portable" ARCH=x86-64-v3 pack-programs
	@BUILD="$(BUILD)-portable" PY="$(PY)" tests/cuda/pack.sh "$(BUILD)/pack-cuda"
.PHONY: pack-programs
pack-programs: $(CHECK_CUDA) $(BENCH_CUDA)
