/* h5_driver — the file driver through which HDF5 reads and writes. */
#pragma once
#include "store/h5_file.h"

/** h5_driver_set — make fapl open the next file through this driver, which reports its errors in f. */
void h5_driver_set(hid_t fapl, H5 *f);
