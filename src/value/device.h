/* SPDX-License-Identifier: Apache-2.0 */
/* Devices: which there are, and how they are written. */
#ifndef TENDRIL_VALUE_DEVICE_H
#define TENDRIL_VALUE_DEVICE_H

#include <tendril/tensor.h>

/* Room for a device as text, with its NUL. */
#define DEVICE_TEXT_SIZE 24

/* Whether the type is known, and the index -1 or more. */
bool device_valid(tdr_device device);

/* Whether both are the same; the CPU is one device, whatever its index. */
bool device_equal(tdr_device a, tdr_device b);

/* "cpu" or "cuda"; "?" for a number that is no type. The string is static. */
const char *device_type_name(tdr_device_type type);

/* The device as "cpu", "cuda" or "cuda:1". Returns `text`. */
const char *device_print(tdr_device device, char text[DEVICE_TEXT_SIZE]);

#endif
