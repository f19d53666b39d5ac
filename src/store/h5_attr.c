/* Attributes: scalars, each a number or a string. */
#include "base/err.h"
#include "base/mem.h"
#include "base/version.h"
#include "store/h5.h"
#include "store/h5_file.h"
#include <string.h>

static int attr_remove(H5 *f, const char *obj, const char *name) {
  if (H5Aexists_by_name(f->id, obj, name, H5P_DEFAULT) <= 0) return OK;
  return h5_wrote(f, H5Adelete_by_name(f->id, obj, name, H5P_DEFAULT) >= 0, name);
}

static int attr_write(H5 *f, const char *obj, const char *name, hid_t type, hid_t memory, const void *value) {
  TRY(attr_remove(f, obj, name));
  hid_t space = H5Screate(H5S_SCALAR);
  hid_t id = H5Acreate_by_name(f->id, obj, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  int err = h5_wrote(f, id >= 0 && H5Awrite(id, memory, value) >= 0, name);
  if (id >= 0) H5Aclose(id);
  H5Sclose(space);
  return err;
}

int h5_set_int(H5 *f, const char *obj, const char *name, int64_t value) {
  return h5_enter(), h5_leave(attr_write(f, obj, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value));
}

int h5_set_real(H5 *f, const char *obj, const char *name, double value) {
  return h5_enter(), h5_leave(attr_write(f, obj, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value));
}

int h5_set_str(H5 *f, const char *obj, const char *name, const char *value) {
  h5_enter();
  hid_t type = h5_text_type();
  int err = attr_write(f, obj, name, type, type, &value);
  H5Tclose(type);
  return h5_leave(err);
}

int h5_unset(H5 *f, const char *obj, const char *name) { return h5_enter(), h5_leave(attr_remove(f, obj, name)); }

bool h5_has(H5 *f, const char *obj, const char *name) {
  h5_enter();
  bool has = h5_there(f, obj) && H5Aexists_by_name(f->id, obj, name, H5P_DEFAULT) != 0;
  h5_leave(OK);
  return has;
}

static int attr_open(H5 *f, const char *obj, const char *name, hid_t *id, hid_t *type) {
  *id = *type = -1;
  CHECK(h5_there(f, obj), ERR_DATA, "%s: %s is missing", f->path, obj);
  CHECK(H5Aexists_by_name(f->id, obj, name, H5P_DEFAULT) != 0, ERR_DATA, "%s: attribute %s of %s is missing", f->path,
        name, obj);
  *id = H5Aopen_by_name(f->id, obj, name, H5P_DEFAULT, H5P_DEFAULT);
  if (*id < 0) return h5_failed(f, "open attribute", name);
  *type = H5Aget_type(*id);
  hid_t space = H5Aget_space(*id);
  hssize_t n = H5Sget_simple_extent_npoints(space);
  H5Sclose(space);
  CHECK(n == 1, ERR_DATA, "%s: attribute %s of %s has %lld values, one was expected", f->path, name, obj, (long long)n);
  return OK;
}

/* h5py stores a Python bool as an int8 enumeration, which HDF5 converts to any integer type. */
static int number_read(H5 *f, const char *obj, const char *name, bool real, void *value) {
  hid_t id, type;
  int err;
  TRY_TO(done, attr_open(f, obj, name, &id, &type));
  H5T_class_t class = H5Tget_class(type);
  if (class != H5T_INTEGER && class != (real ? H5T_FLOAT : H5T_ENUM))
    err = RAISE(ERR_DATA, "%s: attribute %s of %s is not %s", f->path, name, obj, real ? "a number" : "an integer");
  else if (H5Aread(id, real ? H5T_NATIVE_DOUBLE : H5T_NATIVE_INT64, value) < 0)
    err = h5_failed(f, "read attribute", name);
done:
  if (type >= 0) H5Tclose(type);
  if (id >= 0) H5Aclose(id);
  return err;
}

int h5_get_int(H5 *f, const char *obj, const char *name, int64_t *value) {
  return h5_enter(), h5_leave(number_read(f, obj, name, false, value));
}

int h5_get_within(H5 *f, const char *obj, const char *name, int64_t low, int64_t high, int64_t *value) {
  TRY(h5_get_int(f, obj, name, value));
  CHECK(*value >= low && *value <= high, ERR_DATA, "%s: attribute %s of %s is %lld, %lld to %lld was expected", f->path,
        name, obj, (long long)*value, (long long)low, (long long)high);
  return OK;
}

int h5_get_real(H5 *f, const char *obj, const char *name, double *value) {
  return h5_enter(), h5_leave(number_read(f, obj, name, true, value));
}

enum { MOST_TEXT = 64 << 20 }; /* bytes */

static int str_variable(const H5 *f, const char *name, hid_t id, hid_t type, char **value) {
  char *text = NULL;
  if (H5Aread(id, type, &text) < 0) return h5_failed(f, "read attribute", name);
  int err = mem_strdup(value, text ? text : ""); /* HDF5 may return an empty string as NULL */
  H5free_memory(text);
  return err;
}

static int str_fixed(const H5 *f, const char *name, hid_t id, hid_t type, char **value) {
  size_t size = H5Tget_size(type) + 1;
  CHECK(size <= MOST_TEXT, ERR_DATA, "%s: attribute %s has %zu bytes, at most %d were expected", f->path, name,
        size - 1, MOST_TEXT - 1);
  TRY(mem_alloc(value, size));
  H5Tset_size(type, size);
  H5Tset_strpad(type, H5T_STR_NULLTERM);
  if (H5Aread(id, type, *value) >= 0) return OK;
  int err = h5_failed(f, "read attribute", name);
  mem_free(value);
  return err;
}

int h5_attribute_text(const H5 *f, const char *obj, const char *name, hid_t id, char **value) {
  hid_t type = H5Aget_type(id); /* a copy, which str_fixed changes */
  int err = H5Tget_class(type) != H5T_STRING
                ? RAISE(ERR_DATA, "%s: attribute %s of %s is not a string", f->path, name, obj)
                : (H5Tis_variable_str(type) > 0 ? str_variable : str_fixed)(f, name, id, type, value);
  if (type >= 0) H5Tclose(type);
  return err;
}

static int str_read(H5 *f, const char *obj, const char *name, char **value) {
  hid_t id, type;
  int err;
  *value = NULL;
  TRY_TO(done, attr_open(f, obj, name, &id, &type));
  TRY_TO(done, h5_attribute_text(f, obj, name, id, value));
done:
  if (type >= 0) H5Tclose(type);
  if (id >= 0) H5Aclose(id);
  return err;
}

int h5_get_str(H5 *f, const char *obj, const char *name, char **value) {
  return h5_enter(), h5_leave(str_read(f, obj, name, value));
}

int h5_get_text(H5 *f, const char *obj, const char *name, char *text, size_t size) {
  char *value;
  int err = OK;
  TRY(h5_get_str(f, obj, name, &value));
  if (strlen(value) >= size)
    err = RAISE(ERR_DATA, "%s: attribute %s of %s has more than %zu bytes", f->path, name, obj, size - 1);
  else
    strcpy(text, value);
  mem_free(&value);
  return err;
}

int h5_set_format(H5 *f, const char *format, int64_t version) {
  TRY(h5_set_str(f, "/", "format", format));
  TRY(h5_set_int(f, "/", "format_version", version));
  return h5_set_str(f, "/", "version", MDLM_VERSION);
}

/* The format is newer than this program. */
static int newer(H5 *f, const char *format, long long version, long long newest) {
  char program[64] = "unknown";
  if (h5_has(f, "/", "version")) TRY(h5_get_text(f, "/", "version", program, sizeof program));
  return RAISE(
      ERR_USAGE,
      "%s was written by a newer version of mdlm (%s): it has version %lld of the format %s, mdlm " MDLM_VERSION
      " reads up to %lld",
      f->path, program, version, format, newest);
}

int h5_check_format(H5 *f, const char *what, const char *format, int64_t newest) {
  char found[64] = "";
  int64_t version;
  CHECK(h5_has(f, "/", "format"), ERR_DATA, "%s is not %s: it has no attribute format", f->path, what);
  TRY(h5_get_text(f, "/", "format", found, sizeof found));
  CHECK(strcmp(found, format) == 0, ERR_DATA, "%s is not %s: its format is \"%s\", not \"%s\"", f->path, what, found,
        format);
  TRY(h5_get_int(f, "/", "format_version", &version));
  CHECK(version >= 1, ERR_DATA, "%s has version %lld of the format %s, which there is not", f->path, (long long)version,
        format);
  return version <= newest ? OK : newer(f, format, version, newest);
}

int h5_describe(H5 *f, const char *name, const char *unit, const char *description) {
  TRY(h5_set_str(f, name, "unit", unit));
  return h5_set_str(f, name, "description", description);
}
