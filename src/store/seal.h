/* seal — checksums of a finished file, behind its last byte.
 *
 * HDF5 crashes or loops on some flipped bits of its own structures, and nothing inside the file can keep it from
 * reading them. So a finished file gets a tail that HDF5 does not look at, and the driver in h5_driver.c checks each
 * block against it before HDF5 sees a byte of the block. A file without a tail is read as it is. All numbers are
 * little-endian: file           n bytes uint64 sums[]  XXH3-64 of each block of 65,536 bytes, the last one shorter
 *   uint64 n, uint64 65536, uint64 XXH3-64 of sums and these two numbers, and the 8 bytes "MDLMSEAL"
 * Whoever changes the file cuts the tail off: HDF5 does so by itself when it closes a file it has written to. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

typedef struct Seal Seal;

/** seal_append — seal the finished file at path. ERR_IO naming path; then the file is without a valid seal. */
int seal_append(const char *path);
/** seal_open — *s := the seal of the open file of `size` bytes, NULL if it has none.
 *  Errors  ERR_DATA: the seal is there and damaged; ERR_MEMORY */
int seal_open(Seal **s, int fd, int64_t size);
void seal_close(Seal **s);
/** seal_bytes — length of the file without its seal. */
int64_t seal_bytes(const Seal *s);
/** seal_holds — whether the blocks with bytes first … first+n−1 are as they were sealed; each is read once. */
bool seal_holds(Seal *s, int fd, int64_t first, int64_t n);
