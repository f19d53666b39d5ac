/* output — the HDF5 output of a command: written under a temporary name, with its provenance as attributes. */
#pragma once
#include "base/config.h"
#include "dist/comm.h"
#include "store/checkpoint.h"
#include "store/files.h"
#include "store/h5.h"

/** output_path — `given` if not empty, else run.dir/name; ERR_USAGE if both are empty or it is too long. */
int output_path(const Config *cfg, const char *given, const char *name, char path[FILES_PATH]);
/** output_claim — rank 0, before the work: check that the file can be written (files_claim), and that an existing file
 *  is an older output of that format and not the input (may be ""). Makes run_dir if the file belongs there. Other ranks
 *  do nothing.
 *  Errors  ERR_IO; ERR_USAGE: another file has that name */
int output_claim(const Comm *comm, const char *run_dir, char path[FILES_PATH], const char *format, const char *input);
/** output_attributes — the common attributes: format, checkpoint and its digest, step, weights, git, created, deck. */
int output_attributes(H5 *f, const char *format, const Config *cfg, const char *checkpoint,
                      const CheckpointState *state, const char *weights);
/** output_write — make `path`: common attributes, then fill(). Call on one rank. An interrupted or failed write leaves the old file. ERR_IO. */
int output_write(const char *path, const char *format, const Config *cfg, const char *checkpoint,
                 const CheckpointState *state, const char *weights, int (*fill)(H5 *f, const void *arg),
                 const void *arg);
/** output_series — for fill(): a data set of n values with unit and description. */
int output_series(H5 *f, const char *name, H5Type type, int64_t n, const void *data, const char *unit,
                  const char *description);
