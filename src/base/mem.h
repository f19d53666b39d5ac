/* mem — host memory. Allocations are counted, so that a test can assert that a training step makes none. */
#pragma once
#include <stddef.h>

/** mem_alloc — *p := bytes of zeroed memory aligned to 256 bytes; bytes = 0 gives NULL.
 *  Errors  ERR_MEMORY with the size in the message */
int mem_alloc(void *p, size_t bytes);
/** mem_realloc — grow *p, which came from mem_alloc with old bytes, to bytes; new bytes are zero. */
int mem_realloc(void *p, size_t old, size_t bytes);
/** mem_free — release *p and set it to NULL; NULL-safe. */
void mem_free(void *p);
/** mem_strdup — *p := a copy of s. */
int mem_strdup(char **p, const char *s);
/** mem_count — calls of mem_alloc and mem_realloc so far. */
size_t mem_count(void);
/** mem_resident — resident set of this process in bytes, 0 if unknown. */
size_t mem_resident(void);
/** mem_available — memory still available on this machine in bytes, 0 if unknown. */
size_t mem_available(void);
/** mem_total — memory of this machine in bytes, 0 if unknown. */
size_t mem_total(void);
