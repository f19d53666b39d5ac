#include "measure/clip_search.h"
#include "base/err.h"
#include <math.h>

/* The blocks of sequence b: row i of the pass is the first of block *k, or there is none. */
static double block_loss(const Network *net, int64_t b, int64_t k, int64_t size, int64_t *i) {
  const Noised *z = &net->noised;
  const Objective *o = &net->objective;
  double sum = 0;
  for (int64_t end = b * z->L + (k + 1) * size; *i < z->n_rows && z->rows[*i] < end; ++*i)
    sum += net->row_loss[*i] / (o->options.plain ? z->weight[*i * o->terms] : 1);
  return sum;
}

void clip_search_add(ClipPiece *sums, const Network *net, int64_t b) {
  const Noised *z = &net->noised;
  int64_t blocks = objective_blocks(&net->objective, z->L), size = z->L / blocks, i = 0;
  ASSERT(network_passes(net) == 1);
  while (i < z->n_rows && z->rows[i] < b * z->L) i++;
  for (int64_t k = 0; k * size < z->length[b]; k++) {
    int64_t left = z->length[b] - k * size, piece = (int64_t)(z->time[b * blocks + k] * CLIP_PIECES);
    double mean = block_loss(net, b, k, size, &i) / (double)(left < size ? left : size);
    ClipPiece *p = &sums[piece < CLIP_PIECES ? piece : CLIP_PIECES - 1];
    p->blocks += 1, p->sum += mean, p->squares += mean * mean;
  }
}

ClipChoice clip_search_between(const ClipPiece *sums, int first, int last) {
  ClipPiece all = {0};
  for (const ClipPiece *p = sums + first; p < sums + last; p++)
    all.blocks += p->blocks, all.sum += p->sum, all.squares += p->squares;
  double mean = all.sum / all.blocks;
  return (ClipChoice){.low = (double)first / CLIP_PIECES,
                      .high = (double)last / CLIP_PIECES,
                      .variance = all.blocks < 2 || all.squares == 0 ? NAN : all.squares / all.blocks - mean * mean,
                      .blocks = (int64_t)all.blocks};
}

bool clip_search_pick(ClipChoice *best, const ClipPiece *sums) {
  static const int widths[] = {10, 12, 14, 16, 18}; /* pieces */
  *best = clip_search_between(sums, 0, CLIP_PIECES);
  for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
    for (int first = 0; first + widths[w] <= CLIP_PIECES; first++) {
      ClipChoice c = clip_search_between(sums, first, first + widths[w]);
      if (c.variance < best->variance || isnan(best->variance)) *best = c;
    }
  return !isnan(best->variance);
}
