/* SPDX-License-Identifier: Apache-2.0 */
/*
 * References as tuples of Python, for picklers of programs: PyRRef._serialize and PyRRef._deserialize.
 *
 * A tuple has the seven items that PyTorch's has: the owner's id, the two numbers of the reference's name, the two of the fork made
 * for the reader, the id of who wrote it, and a text. The text is the type's name there; here it has what our references are made of
 * besides, "tendril:" and four numbers. Each tuple is to be read once.
 */
#include "ext.h"

#include <inttypes.h>

#define ITEMS 7
#define EXTRA_FORMAT "tendril:%" PRIu64 ":%" PRIu64 ":%" PRIu64 ":%" PRIu64
#define EXTRA_SCAN "tendril:%" SCNu64 ":%" SCNu64 ":%" SCNu64 ":%" SCNu64 "%n"

PyObject *rref_serialize(PyObject *self, PyObject *unused)
{
	tdr_rref *rref = rref_to_send(self);
	tdr_rref_parts parts;
	tdr_status status;
	char extra[128];

	if (!rref)
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	status = tdr_rref_serialize(rref, &parts);
	Py_END_ALLOW_THREADS;
	if (status == TDR_ESHUTDOWN)
		return PyErr_Format(PyExc_RuntimeError,
		                    "%S has been deleted. Cannot call fork an UserRRef after deletion.", self);
	if (status != TDR_OK)
		return raise_last(status);
	snprintf(extra, sizeof(extra), EXTRA_FORMAT, parts.owner_incarnation, parts.rref_incarnation,
	         parts.parent_incarnation, parts.origin);
	return Py_BuildValue("(KKKKKKs)", (unsigned long long)parts.owner_id, (unsigned long long)parts.rref_created_on,
	                     (unsigned long long)parts.rref_local_id, (unsigned long long)parts.fork_created_on,
	                     (unsigned long long)parts.fork_local_id, (unsigned long long)parts.parent_id, extra);
}

/* False: an exception. */
static bool parts_from_tuple(PyObject *tuple, tdr_rref_parts *ret_parts)
{
	uint64_t *const numbers[] = {
	    &ret_parts->owner_id,        &ret_parts->rref_created_on, &ret_parts->rref_local_id,
	    &ret_parts->fork_created_on, &ret_parts->fork_local_id,   &ret_parts->parent_id,
	};
	const char *extra;
	int end = 0;

	if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) != ITEMS) {
		PyErr_SetString(PyExc_RuntimeError, "Pickled RRefForkData must contain 7 numbers.");
		return false;
	}
	for (Py_ssize_t i = 0; i < ITEMS - 1; i++) {
		*numbers[i] = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(tuple, i));
		if (PyErr_Occurred())
			return false;
	}
	if (!PyUnicode_Check(PyTuple_GET_ITEM(tuple, ITEMS - 1))) {
		PyErr_SetString(PyExc_TypeError, "the last item of a serialized RRef is a str");
		return false;
	}
	extra = PyUnicode_AsUTF8(PyTuple_GET_ITEM(tuple, ITEMS - 1));
	if (!extra)
		return false;
	if (sscanf(extra, EXTRA_SCAN, &ret_parts->owner_incarnation, &ret_parts->rref_incarnation,
	           &ret_parts->parent_incarnation, &ret_parts->origin, &end) != 4 ||
	    extra[end] != '\0') {
		PyErr_Format(PyExc_RuntimeError, "'%s' is not what PyRRef._serialize of tendril ends with", extra);
		return false;
	}
	return true;
}

PyObject *rref_deserialize(PyObject *unused, PyObject *tuple)
{
	AgentObject *agent = agent_current();
	tdr_agent *native = agent ? agent_of(agent) : NULL;
	tdr_rref_parts parts;
	tdr_rref *rref = NULL;
	tdr_status status;

	if (!native || !parts_from_tuple(tuple, &parts))
		return NULL;
	tdr_agent_ref(native); /* another thread may shut it down meanwhile */
	Py_BEGIN_ALLOW_THREADS;
	status = tdr_rref_deserialize(native, &parts, &rref);
	tdr_agent_unref(native);
	Py_END_ALLOW_THREADS;
	return status == TDR_OK ? rref_object(rref) : raise_last(status);
}
