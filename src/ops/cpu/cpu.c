#include "ops/cpu/cpu.h"
#include "base/mem.h"

int FN(scratch)(Device *dev, ScratchSlot slot, size_t bytes, void *p) {
  Cpu *cpu = dev->impl;
  if (bytes > cpu->size[slot]) {
    mem_free(&cpu->scratch[slot]);
    dev->allocated -= cpu->size[slot];
    cpu->size[slot] = 0;
    TRY(mem_alloc(&cpu->scratch[slot], bytes));
    dev->allocated += cpu->size[slot] = bytes;
  }
  *(void **)p = cpu->scratch[slot];
  return OK;
}
