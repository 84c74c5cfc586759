// SPDX-License-Identifier: Apache-2.0
// TDR_ARGS and TDR_KWARGS as C++ sees them. The C test compares what they make with its own.
#include <tendril.h>

extern "C" {
tdr_value *args_of_cxx(tdr_tensor *tensor);
tdr_value *kwargs_of_cxx(void);
tdr_value *no_args_of_cxx(void);
}

tdr_value *args_of_cxx(tdr_tensor *tensor)
{
	char text[] = "text";
	const char *none = nullptr;
	short small = -3;
	unsigned char byte = 200;

	return TDR_ARGS(1, -2L, 3LL, 4U, 18446744073709551615ULL, 0.5, 0.25F, "text", text, none, small, byte,
	                tdr_none(), tensor, static_cast<tdr_tensor *>(nullptr), static_cast<tdr_rref *>(nullptr),
	                tdr_bool(true));
}

tdr_value *kwargs_of_cxx(void)
{
	return TDR_KWARGS("lr", 0.05, "steps", 3, "nested", TDR_ARGS(1, "x"));
}

tdr_value *no_args_of_cxx(void)
{
	return TDR_ARGS();
}
