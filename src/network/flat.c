#include "network/flat.h"
#include "base/err.h"
#include "base/mem.h"
#include <string.h>

int flat_create(Flat *f, Params *p, Tensor flat, bool copy) {
  *f = (Flat){0};
  f->owned = copy || !(p->dev->ops->host && flat.type == DT_F32);
  f->data = flat.data;
  if (f->owned) TRY(mem_alloc(&f->data, (size_t)p->count * sizeof(float)));
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

int flat_fill(Flat *f, Params *p, Tensor flat) {
  void *scratch = NULL;
  ASSERT(f->owned);
  int err = flat.type != DT_F32 ? mem_alloc(&scratch, tensor_bytes(flat)) : OK;
  if (err == OK) err = tensor_to_f32(p->dev, f->data, flat, scratch);
  mem_free(&scratch);
  return err;
}

void flat_destroy(Flat *f) {
  if (f->owned) mem_free(&f->data);
  mem_free(&f->arrays);
  *f = (Flat){0};
}

int flat_use(const Flat *f, Params *p, Tensor flat) {
  void *scratch = NULL;
  if (!f->owned) return OK;
  int err = flat.type != DT_F32 ? mem_alloc(&scratch, tensor_bytes(flat)) : OK;
  if (err == OK) err = tensor_from_f32(p->dev, flat, f->data, scratch);
  mem_free(&scratch);
  return err;
}

static int share(Flat *f, H5 *from, CheckpointGroup group, Params *p, Tensor flat, Comm *readers) {
  int err = flat_create(f, p, flat, false);
  if (err == OK && readers->rank == 0) err = checkpoint_load(from, group, f->arrays, p->n);
  TRY(comm_agree(readers, err));
  TRY(comm_broadcast(readers, f->data, (size_t)p->count * sizeof *f->data, 0));
  return comm_agree(readers, flat_use(f, p, flat));
}

int flat_load(H5 *f, CheckpointGroup group, Params *p, Tensor flat, Comm *readers) {
  Flat all;
  Comm alone;
  if (!readers) TRY(comm_null_create(&alone));
  int err = share(&all, f, group, p, flat, readers ? readers : &alone);
  flat_destroy(&all);
  return err;
}
