/* SPDX-License-Identifier: Apache-2.0 */
/* Device maps of agents. A device is a tuple of its type and its index, ("cpu", 0) or ("cuda", 1). */
#include "ext.h"

#include <stdlib.h>
#include <string.h>

static bool device_from_python(PyObject *pair, tdr_device *ret_device)
{
	const char *type;
	int index;

	if (!PyTuple_Check(pair) || !PyArg_ParseTuple(pair, "si", &type, &index)) {
		PyErr_Format(PyExc_TypeError,
		             "a device is a tuple of its type and its index, such as ('cuda', 0), not %R", pair);
		return false;
	}
	if (strcmp(type, "cpu") == 0) {
		*ret_device = TDR_DEVICE_CPU;
		return true;
	}
	if (strcmp(type, "cuda") != 0) {
		PyErr_Format(PyExc_ValueError, "a device is 'cpu' or 'cuda', not '%s'", type);
		return false;
	}
	*ret_device = (tdr_device){TDR_CUDA, index};
	return true;
}

static PyObject *device_object(tdr_device device)
{
	return Py_BuildValue("(si)", device.type == TDR_CPU ? "cpu" : "cuda",
	                     device.type == TDR_CPU ? 0 : device.index);
}

bool device_map_set(tdr_agent *agent, PyObject *args)
{
	PyObject *map, *from, *to;
	Py_ssize_t position = 0;
	tdr_device_pair *pairs;
	tdr_status status = TDR_OK;
	const char *worker;
	size_t count = 0;
	bool good = true;

	if (!PyArg_ParseTuple(args, "sO!:set_device_map", &worker, &PyDict_Type, &map))
		return false;
	map = PyDict_Copy(map); /* an index may be any object with __index__, which may change the dict */
	if (!map)
		return false;
	pairs = calloc((size_t)PyDict_GET_SIZE(map) + 1, sizeof(*pairs));
	if (!pairs)
		PyErr_NoMemory();
	good = pairs != NULL;
	while (good && PyDict_Next(map, &position, &from, &to)) {
		good = device_from_python(from, &pairs[count].from) && device_from_python(to, &pairs[count].to);
		count++;
	}
	if (good)
		status = tdr_agent_set_device_map(agent, worker, count, pairs);
	Py_DECREF(map);
	free(pairs);
	if (status != TDR_OK)
		raise_last(status);
	return good && status == TDR_OK;
}

bool devices_set(tdr_agent *agent, PyObject *args)
{
	PyObject *given, *list;
	tdr_device *devices;
	tdr_status status = TDR_OK;
	bool good = true;

	if (!PyArg_ParseTuple(args, "O:set_devices", &given))
		return false;
	list = PySequence_List(given);
	if (!list)
		return false;
	devices = calloc((size_t)PyList_GET_SIZE(list) + 1, sizeof(*devices));
	for (Py_ssize_t i = 0; devices && good && i < PyList_GET_SIZE(list); i++)
		good = device_from_python(PyList_GET_ITEM(list, i), &devices[i]);
	if (!devices)
		PyErr_NoMemory();
	else if (good)
		status = tdr_agent_set_devices(agent, (size_t)PyList_GET_SIZE(list), devices);
	good = devices && good;
	free(devices);
	Py_DECREF(list);
	if (status != TDR_OK)
		raise_last(status);
	return good && status == TDR_OK;
}

PyObject *device_map_get(tdr_agent *agent, PyObject *args)
{
	PyObject *map = NULL;
	tdr_device_pair *pairs;
	const char *worker;
	size_t count;

	if (!PyArg_ParseTuple(args, "s:device_map", &worker))
		return NULL;
	count = tdr_agent_device_map(agent, worker, 0, NULL);
	pairs = calloc(count + 1, sizeof(*pairs));
	if (!pairs)
		return PyErr_NoMemory();
	count = tdr_agent_device_map(agent, worker, count, pairs);
	map = PyDict_New();
	for (size_t i = 0; map && i < count; i++) {
		PyObject *from = device_object(pairs[i].from), *to = from ? device_object(pairs[i].to) : NULL;

		if (!to || PyDict_SetItem(map, from, to) < 0)
			Py_CLEAR(map);
		Py_XDECREF(from);
		Py_XDECREF(to);
	}
	free(pairs);
	return map;
}

PyObject *devices_get(tdr_agent *agent)
{
	tdr_device *devices;
	PyObject *list;
	size_t count;

	count = tdr_agent_devices(agent, 0, NULL);
	devices = calloc(count + 1, sizeof(*devices));
	if (!devices)
		return PyErr_NoMemory();
	count = tdr_agent_devices(agent, count, devices);
	list = PyList_New((Py_ssize_t)count);
	for (size_t i = 0; list && i < count; i++) {
		PyObject *device = device_object(devices[i]);

		if (!device)
			Py_CLEAR(list);
		else
			PyList_SET_ITEM(list, (Py_ssize_t)i, device);
	}
	free(devices);
	return list;
}
