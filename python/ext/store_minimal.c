/* SPDX-License-Identifier: Apache-2.0 */
/* No stores, until store.c is there. */
#include "ext.h"

tdr_store *store_from_python(PyObject *object)
{
	PyErr_SetString(PyExc_TypeError, "there are no stores yet: give init_method");
	return NULL;
}

int store_init(PyObject *module)
{
	return 0;
}
