#include "train/layers.h"
#include "base/activity.h"
#include "base/err.h"
#include "base/mem.h"
#include <math.h>

static const char *const groups[LAYER_NORMS] = {"weight_norm", "gradient_norm", "update_norm"};
static const char *const meaning[LAYER_NORMS] = {
    "2-norm of this parameter after the step",
    "2-norm of its gradient in the step, over the global batch, before clipping", "2-norm of its change in the step"};

static int buffer(Device *dev, Tensor *t, DType type, int64_t n) {
  void *data;
  TRY(device_alloc(dev, &data, (size_t)n * dtype_size(type)));
  *t = tensor_1d(data, type, n);
  return OK;
}

static int table_create(Layers *l, int which, int64_t rows) {
  int n = l->params->n;
  MetricsColumn *columns = l->columns + (int64_t)which * (n + 1);
  columns[0] = (MetricsColumn){"step", "step", "optimizer steps taken"};
  for (int i = 0; i < n; i++) columns[i + 1] = (MetricsColumn){l->params->list[i].name, "", meaning[which]};
  return metrics_table_create(&l->tables[which], groups[which], columns, n + 1, rows);
}

int layers_create(Layers *l, Params *p, History *h, int64_t every, int64_t steps) {
  *l = (Layers){.every = every, .params = p};
  if (every == 0) return OK;
  int64_t chunk = p->dev->ops->chunk;
  TRY(mem_alloc(&l->columns, LAYER_NORMS * (size_t)(p->n + 1) * sizeof *l->columns));
  TRY(mem_alloc(&l->row, (size_t)(p->n + 1) * sizeof *l->row));
  TRY(buffer(p->dev, &l->before, p->value.type, p->count));
  TRY(buffer(p->dev, &l->terms, DT_F64, (p->count + chunk - 1) / chunk));
  TRY(buffer(p->dev, &l->squares, DT_F64, p->n));
  for (int i = 0; i < LAYER_NORMS; i++) {
    TRY(table_create(l, i, 1 + steps / every));
    history_add(h, &l->tables[i]);
  }
  return OK;
}

void layers_destroy(Layers *l) {
  if (l->params == NULL) return;
  Tensor all[] = {l->before, l->terms, l->squares};
  for (int i = 0; i < 3; i++) device_release(l->params->dev, all[i].data, tensor_bytes(all[i]));
  for (int i = 0; i < LAYER_NORMS; i++) metrics_table_destroy(&l->tables[i]);
  mem_free(&l->columns);
  mem_free(&l->row);
  *l = (Layers){0};
}

bool layers_due(const Layers *l, int64_t step) { return l->every > 0 && step % l->every == 0; }

int layers_before(Layers *l) { return tensor_copy(l->params->dev, l->before, l->params->value); }

/* A row of the norms of flat·scale. */
static int add_row(Layers *l, int which, int64_t step, Tensor flat, double scale) {
  const Params *p = l->params;
  int64_t chunk = p->dev->ops->chunk;
  for (int i = 0; i < p->n; i++) {
    const Param *x = &p->list[i];
    Tensor terms = tensor_rows(l->terms, 0, (x->count + chunk - 1) / chunk);
    TRY(op_squares(p->dev, terms, tensor_rows(flat, x->offset, x->count)));
    TRY(op_sum_terms(p->dev, tensor_rows(l->squares, i, 1), terms));
  }
  activity_begin(ACTIVITY_DEVICE, "its device's results");
  int err = tensor_download(p->dev, l->row + 1, l->squares);
  activity_end();
  l->row[0] = (double)step;
  for (int i = 1; i <= p->n; i++) l->row[i] = scale * sqrt(l->row[i]);
  return err == OK ? metrics_add(&l->tables[which], l->row) : err;
}

int layers_after(Layers *l, int64_t step, double scale) {
  Params *p = l->params;
  TRY(op_blend(p->dev, l->before, -1, 1, p->value));
  TRY(add_row(l, LAYER_WEIGHT, step, p->value, 1));
  TRY(add_row(l, LAYER_GRADIENT, step, p->grad, scale));
  return add_row(l, LAYER_UPDATE, step, l->before, 1);
}
