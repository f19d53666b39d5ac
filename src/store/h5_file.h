/* h5_file — an open file as the sources of h5 share it; hdf5.h comes in here and nowhere else. */
#pragma once
#include "store/h5.h"
#include <hdf5.h>

enum { H5_KEPT = 4, H5_NAME_SIZE = 256 };

struct H5 {
  hid_t id;
  bool write;
  bool damaged; /* a block was not as it was sealed */
  int os_error; /* errno of the first read or write that failed, 0 if none */
  int next;     /* the kept data set to give up next */
  struct {
    char name[H5_NAME_SIZE];
    hid_t id;
  } kept[H5_KEPT]; /* data sets stay open: a loader reads two of them again and again */
  char path[];
};

/** h5_enter — take the lock without which the library must not be called; everything below is called under it. */
void h5_enter(void);
/** h5_leave — give it back; returns err. */
int h5_leave(int err);
/** h5_driver_set — let fapl open the next file through our driver, which tells its errors to f. */
void h5_driver_set(hid_t fapl, H5 *f);
/** h5_failed — raise the failure just met, with the system's reason or HDF5's. Before any other call of HDF5. */
int h5_failed(const H5 *f, const char *verb, const char *name);
/** h5_wrote — OK if ok and all writes so far have reached the system. */
int h5_wrote(const H5 *f, bool ok, const char *name);
/** h5_there — whether the object is in the file, or may be: a link that cannot be looked up is there. */
bool h5_there(const H5 *f, const char *name);
/** h5_text_type — of a UTF-8 string of any length; to be closed. */
hid_t h5_text_type(void);
