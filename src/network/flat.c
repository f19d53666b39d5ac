#include "network/flat.h"
#include "base/err.h"
#include "base/mem.h"
#include <string.h>

int flat_create(Flat *f, Params *p, Tensor flat, bool fill) {
  *f = (Flat){0};
  f->owned = !(p->dev->ops->host && flat.type == DT_F32);
  f->data = flat.data;
  if (f->owned) {
    void *scratch = NULL;
    TRY(mem_alloc(&f->data, (size_t)p->count * sizeof(float)));
    int err = fill && flat.type != DT_F32 ? mem_alloc(&scratch, tensor_bytes(flat)) : OK;
    if (fill && err == OK) err = tensor_to_f32(p->dev, f->data, flat, scratch);
    mem_free(&scratch);
    TRY(err);
  }
  TRY(mem_alloc(&f->arrays, (size_t)p->n * sizeof *f->arrays));
  for (int i = 0; i < p->n; i++) {
    CheckpointArray *a = &f->arrays[i];
    a->name = p->list[i].name;
    a->rank = p->list[i].rank;
    memcpy(a->dims, p->list[i].dims, sizeof a->dims);
    a->data = f->data + p->list[i].offset;
  }
  return OK;
}

void flat_destroy(Flat *f) {
  if (f->owned) mem_free(&f->data);
  mem_free(&f->arrays);
  *f = (Flat){0};
}

int flat_load(const char *path, CheckpointGroup group, Params *p, Tensor flat) {
  Flat f;
  void *scratch = NULL;
  int err = OK;
  TRY_TO(done, flat_create(&f, p, flat, false));
  TRY_TO(done, checkpoint_load(path, group, f.arrays, p->n));
  if (f.owned) {
    if (flat.type != DT_F32) TRY_TO(done, mem_alloc(&scratch, tensor_bytes(flat)));
    TRY_TO(done, tensor_from_f32(p->dev, flat, f.data, scratch));
  }
done:
  mem_free(&scratch);
  flat_destroy(&f);
  return err;
}
