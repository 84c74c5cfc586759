/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs operators for compare_torch.py: requests come on standard input, answers go to standard output. All numbers are
 * little-endian, as the machine's.
 *
 * request = name, count: u8, storages: (size: u64, bytes)*, nargs: u8, value*, nkwargs: u8, (name, value)* name = size:
 * u8, bytes value = 'N' | 'B' u8 | 'I' i64 | 'F' f64 | 'S' name | 'L' count: u8, value* | 'T' storage: u8, dtype: u8,
 * ndim: u8, offset: i64, sizes: i64*, strides: i64* answer = status: u8; then for TDR_OK: storage: u8 (which of the
 * request's the result views; 255: none), dtype: u8, ndim: u8, sizes: i64*, elements, row by row; else name (the
 * error's text); then the bytes of all storages
 *
 * The test that feeds it is trusted: what cannot be read ends the process.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tendril/args.h>

#define STORAGES 8

static tdr_storage *storages[STORAGES];
static uint8_t storage_count;

static _Noreturn void give_up(const char *why)
{
	fprintf(stderr, "operator_driver: %s: %s\n", why, tdr_last_error());
	exit(2);
}

static void read_bytes(void *to, size_t size)
{
	if (size > 0 && fread(to, 1, size, stdin) != size)
		give_up("the request is cut off");
}

static uint8_t read_u8(void)
{
	uint8_t number;

	read_bytes(&number, sizeof(number));
	return number;
}

static int64_t read_i64(void)
{
	int64_t number;

	read_bytes(&number, sizeof(number));
	return number;
}

static double read_f64(void)
{
	double number;

	read_bytes(&number, sizeof(number));
	return number;
}

static const char *read_name(char buffer[256])
{
	uint8_t size = read_u8();

	read_bytes(buffer, size);
	buffer[size] = '\0';
	return buffer;
}

static tdr_value *read_tensor(void)
{
	uint8_t storage = read_u8(), dtype = read_u8(), ndim = read_u8();
	int64_t offset = read_i64(), sizes[TDR_MAX_DIMS], strides[TDR_MAX_DIMS];
	tdr_tensor *tensor;
	tdr_value *value;

	if (storage >= storage_count || ndim > TDR_MAX_DIMS)
		give_up("no such storage, or too many dimensions");
	read_bytes(sizes, ndim * sizeof(*sizes));
	read_bytes(strides, ndim * sizeof(*strides));
	if (tdr_tensor_view(storages[storage], (tdr_dtype)dtype, ndim, sizes, strides, offset, &tensor) != TDR_OK)
		give_up("no view");
	value = tdr_tensor_value(tensor);
	tdr_tensor_unref(tensor);
	return value;
}

static tdr_value *read_value(void)
{
	char buffer[256];
	tdr_value *list;
	uint8_t count;

	switch (read_u8()) {
	case 'N':
		return tdr_none();
	case 'B':
		return tdr_bool(read_u8());
	case 'I':
		return tdr_int(read_i64());
	case 'F':
		return tdr_float(read_f64());
	case 'S':
		return tdr_string(read_name(buffer));
	case 'T':
		return read_tensor();
	case 'L':
		list = tdr_list(0, NULL);
		count = read_u8();
		for (uint8_t i = 0; i < count; i++)
			if (tdr_list_append(list, read_value()) != TDR_OK)
				give_up("no list");
		return list;
	default:
		give_up("no such value");
	}
}

static void read_storages(void)
{
	storage_count = read_u8();
	if (storage_count > STORAGES)
		give_up("too many storages");
	for (uint8_t i = 0; i < storage_count; i++) {
		if (tdr_storage_new((size_t)read_i64(), &storages[i]) != TDR_OK)
			give_up("no storage");
		read_bytes(tdr_storage_data(storages[i]), tdr_storage_nbytes(storages[i]));
	}
}

static void write_bytes(const void *from, size_t size)
{
	if (size > 0 && fwrite(from, 1, size, stdout) != size)
		give_up("nobody reads the answer");
}

static void write_u8(uint8_t number)
{
	write_bytes(&number, 1);
}

static void write_tensor(tdr_tensor *tensor)
{
	const size_t ndim = tdr_tensor_ndim(tensor);
	uint8_t storage = 255;
	tdr_tensor *dense;

	for (uint8_t i = 0; i < storage_count; i++)
		if (tdr_tensor_storage(tensor) == storages[i])
			storage = i;
	if (tdr_tensor_contiguous(tensor, &dense) != TDR_OK)
		give_up("no contiguous result");
	write_u8(storage);
	write_u8((uint8_t)tdr_tensor_dtype(tensor));
	write_u8((uint8_t)ndim);
	write_bytes(tdr_tensor_sizes(tensor), ndim * sizeof(int64_t));
	write_bytes(tdr_tensor_data(dense), (size_t)tdr_tensor_numel(dense) * tdr_dtype_size(tdr_tensor_dtype(dense)));
	tdr_tensor_unref(dense);
}

static void serve_one(void)
{
	char name[256], key[256];
	tdr_value *args = tdr_list(0, NULL), *kwargs = tdr_dict_new(), *result = NULL;
	tdr_tensor *tensor;
	tdr_status status;
	uint8_t count;

	read_name(name);
	read_storages();
	count = read_u8();
	for (uint8_t i = 0; i < count; i++)
		if (tdr_list_append(args, read_value()) != TDR_OK)
			give_up("no arguments");
	count = read_u8();
	for (uint8_t i = 0; i < count; i++) {
		read_name(key);
		if (tdr_dict_set(kwargs, key, read_value()) != TDR_OK)
			give_up("no keywords");
	}
	status = harness_call(name, args, kwargs, &result);
	write_u8((uint8_t)status);
	if (status == TDR_OK) {
		if (tdr_value_get_tensor(result, &tensor) != TDR_OK)
			give_up("the result is no tensor");
		write_tensor(tensor);
	} else {
		size_t size = strlen(harness_error()) < 255 ? strlen(harness_error()) : 255;

		write_u8((uint8_t)size);
		write_bytes(harness_error(), size);
	}
	tdr_value_unref(result);
	for (uint8_t i = 0; i < storage_count; i++) {
		write_bytes(tdr_storage_data(storages[i]), tdr_storage_nbytes(storages[i]));
		tdr_storage_unref(storages[i]);
	}
	fflush(stdout);
}

int main(void)
{
	int next;

	harness_open();
	while ((next = getc(stdin)) != EOF) {
		ungetc(next, stdin);
		serve_one();
	}
	harness_close();
	return 0;
}
