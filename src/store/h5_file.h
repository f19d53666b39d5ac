/* h5_file — an open file as the sources of h5 see it: the struct, the lock around the library, and how failures are
 * reported. hdf5.h is included here and nowhere else. */
#pragma once
#include <hdf5.h>
#include <stdbool.h>
#include <sys/stat.h>

enum { H5_KEPT = 4, H5_NAME_SIZE = 256 };

typedef struct H5 H5;
struct H5 {
  hid_t id;
  bool write;
  bool damaged;                 /* a block does not match its seal */
  bool sealed;                  /* it has a seal, which is checked when it is read */
  int fd;                       /* not owned */
  struct stat at_open, at_path; /* what the descriptor and the path referred to when the file was opened */
  double looked;                /* when the path was last looked at */
  int os_error;                 /* errno of the first read or write that failed, 0 if none */
  int next;                     /* the kept data set to close next */
  struct {
    char name[H5_NAME_SIZE];
    hid_t id;
  } kept[H5_KEPT]; /* data sets that stay open: a loader alternates between two of them */
  char path[];
};

/** h5_file_open — h5_open, or with `create` h5_create, inside the lock. */
int h5_file_open(H5 **f, const char *path, bool write, bool create);
/** h5_file_close — h5_close inside the lock. */
int h5_file_close(H5 *f);
/** h5_attribute_text — *value := the text of the open string attribute `name` of obj. */
int h5_attribute_text(const H5 *f, const char *obj, const char *name, hid_t id, char **value);
/** h5_enter — take the library's lock, in the order of the calls; every function below and every HDF5 call needs it. */
void h5_enter(void);
/** h5_leave — release the lock; returns err. */
int h5_leave(int err);
/** h5_reason — why the last HDF5 call failed: the system's reason if there is one, else HDF5's innermost description.
 *  Must be called before any other HDF5 function. */
void h5_reason(const H5 *f, char reason[H5_NAME_SIZE]);
/** h5_failed — raise the error of the last HDF5 call. Must be called before any other HDF5 function. */
int h5_failed(const H5 *f, const char *verb, const char *name);
/** h5_wrote — OK if ok and all writes so far have reached the system. */
int h5_wrote(const H5 *f, bool ok, const char *name);
/** h5_there — whether the object is in the file. Links that cannot be read count as present. */
bool h5_there(const H5 *f, const char *name);
/** h5_text_type — the type of a UTF-8 string of any length; the caller closes it. */
hid_t h5_text_type(void);
