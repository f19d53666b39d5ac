/* seal — checksums of a finished file, appended to it.
 *
 * HDF5 crashes or loops on some flipped bits in its own structures, and nothing inside the file can keep it from
 * reading them. A finished file therefore gets a tail that HDF5 ignores, and the driver (h5_driver.c) checks each block
 * against it before HDF5 sees the block. A file without a tail is read unchecked. Layout, all numbers little-endian:
 *
 *   file             n bytes
 *   uint64 sums[]    XXH3-64 of each block of 65,536 bytes; the last block may be shorter
 *   uint64           n
 *   uint64           65536
 *   uint64           XXH3-64 of sums[] and the two numbers above
 *   char[8]          "MDLMSEAL"
 *
 * Opening the file for writing cuts the tail off. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

typedef struct Seal Seal;

/** seal_append — seal the finished file at path. ERR_IO naming path, and then the file has no valid seal. */
int seal_append(const char *path);
/** seal_there — whether the file at path ends as a sealed file does. */
bool seal_there(const char *path);
/** seal_open — *s := the seal of the open file of `size` bytes, NULL if it has none.
 *  Errors  ERR_DATA: the seal is damaged; ERR_MEMORY */
int seal_open(Seal **s, int fd, int64_t size);
void seal_close(Seal **s);
/** seal_bytes — length of the file without its seal. */
int64_t seal_bytes(const Seal *s);
/** seal_holds — whether the blocks that hold bytes first … first+n−1 match their checksums; each is read only once. */
bool seal_holds(Seal *s, int fd, int64_t first, int64_t n);
