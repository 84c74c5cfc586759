/* SPDX-License-Identifier: Apache-2.0 */
#include "value/device.h"

#include "base/macros.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const type_names[] = {[TDR_CPU] = "cpu", [TDR_CUDA] = "cuda"};

bool device_valid(tdr_device device)
{
	return (size_t)device.type < COUNT_OF(type_names) && device.index >= -1;
}

bool device_equal(tdr_device a, tdr_device b)
{
	return a.type == b.type && (a.type == TDR_CPU || a.index == b.index);
}

const char *device_type_name(tdr_device_type type)
{
	return (size_t)type < COUNT_OF(type_names) ? type_names[type] : "?";
}

const char *device_print(tdr_device device, char text[DEVICE_TEXT_SIZE])
{
	if (device.index < 0)
		snprintf(text, DEVICE_TEXT_SIZE, "%s", device_type_name(device.type));
	else
		snprintf(text, DEVICE_TEXT_SIZE, "%s:%" PRId32, device_type_name(device.type), device.index);
	return text;
}
