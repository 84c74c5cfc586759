/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/address.h"

#include "base/macros.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>
#include <string.h>

static void test_split(void **state)
{
	static const struct {
		const char *address, *scheme, *host;
		uint16_t port;
	} rows[] = {
	    {"tcp://10.0.0.1:4711", "tcp", "10.0.0.1", 4711},
	    {"tcp://[::1]:4711", "tcp", "::1", 4711},
	    {"tcp://[fe80::1%eth0]:1", "tcp", "fe80::1%eth0", 1},
	    {"tcp://host", "tcp", "host", 0},
	    {"host", "", "host", 0},
	    {"host.example.org:65535", "", "host.example.org", 65535},
	    {"[2001:db8::5]:80", "", "2001:db8::5", 80},
	    {"[::]", "", "::", 0},
	    {"::1", "", "::1", 0},
	    {"shm://a:0", "shm", "a", 0},
	};
	char scheme[ADDRESS_SIZE], host[ADDRESS_SIZE];
	uint16_t port;

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		assert_int_equal(address_split(rows[i].address, scheme, host, &port), TDR_OK);
		assert_string_equal(scheme, rows[i].scheme);
		assert_string_equal(host, rows[i].host);
		assert_int_equal(port, rows[i].port);
	}
}

static void test_split_invalid(void **state)
{
	static const char *const bad[] = {
	    "",          "://x:1",     "tcp://",  "tcp://:5",
	    "host:",     "host:65536", "host:-1", "host:1x",
	    "host: 1",   "[::1",       "[::1]x",  "[::1]:",
	    "[host]:1",  "a:b:c",      "a/b:1",   "user@host:1",
	    "tcp://a b", "[]:1",       "::1:x::", "host:99999999999999999999",
	};
	char scheme[ADDRESS_SIZE] = "unchanged", host[ADDRESS_SIZE] = "unchanged", large[2 * ADDRESS_SIZE];
	uint16_t port = 7;

	for (size_t i = 0; i < COUNT_OF(bad); i++) {
		if (address_split(bad[i], scheme, host, &port) != TDR_EINVAL)
			fail_msg("\"%s\" was taken for an address", bad[i]);
		assert_non_null(strstr(tdr_last_error(), "tcp://host:port"));
	}
	memset(large, 'a', sizeof(large));
	large[sizeof(large) - 1] = '\0';
	assert_int_equal(address_split(large, scheme, host, &port), TDR_EINVAL);
	memcpy(large + 150, "://", 3);
	assert_int_equal(address_split(large, scheme, host, &port), TDR_EINVAL);
	memset(large, ':', sizeof(large) - 1);
	assert_int_equal(address_split(large, scheme, host, &port), TDR_EINVAL);
	assert_string_equal(scheme, "unchanged");
	assert_string_equal(host, "unchanged");
	assert_int_equal(port, 7);
}

static void test_join(void **state)
{
	char address[ADDRESS_SIZE];

	address_join("tcp", "10.0.0.1", 4711, address);
	assert_string_equal(address, "tcp://10.0.0.1:4711");
	address_join("tcp", "::1", 0, address);
	assert_string_equal(address, "tcp://[::1]:0");
}

static void test_host(void **state)
{
	struct sockaddr_storage address = {.ss_family = AF_INET};
	char host[ADDRESS_SIZE];

	((struct sockaddr_in *)&address)->sin_port = htons(5);
	inet_pton(AF_INET, "192.0.2.7", &((struct sockaddr_in *)&address)->sin_addr);
	address_host(&address, host);
	assert_string_equal(host, "192.0.2.7");
	assert_int_equal(address_port(&address), 5);
	memset(&address, 0, sizeof(address));
	address.ss_family = AF_INET6;
	((struct sockaddr_in6 *)&address)->sin6_port = htons(6);
	inet_pton(AF_INET6, "2001:db8::7", &((struct sockaddr_in6 *)&address)->sin6_addr);
	address_host(&address, host);
	assert_string_equal(host, "2001:db8::7");
	assert_int_equal(address_port(&address), 6);
	inet_pton(AF_INET6, "::ffff:192.0.2.7", &((struct sockaddr_in6 *)&address)->sin6_addr);
	address_host(&address, host);
	assert_string_equal(host, "192.0.2.7");
	address.ss_family = AF_UNIX;
	address_host(&address, host);
	assert_string_equal(host, "");
	assert_int_equal(address_port(&address), 0);
}

static void test_choose(void **state)
{
	struct sockaddr_storage route = {.ss_family = AF_INET};
	char host[ADDRESS_SIZE], world[ADDRESS_SIZE];
	struct in6_addr any;

	inet_pton(AF_INET, "198.51.100.4", &((struct sockaddr_in *)&route)->sin_addr);
	address_choose("node7.example.org", "lo", &route, host);
	assert_string_equal(host, "node7.example.org");
	address_choose(NULL, "lo", &route, host);
	assert_string_equal(host, "127.0.0.1");
	address_choose("", "no-such-interface", &route, host);
	assert_string_equal(host, "198.51.100.4");
	address_choose(NULL, NULL, NULL, world);
	assert_true(inet_pton(AF_INET, world, &any) == 1 || inet_pton(AF_INET6, world, &any) == 1);
	/* What cannot be used leads to the next choice. */
	route.ss_family = AF_UNIX;
	address_choose(NULL, "no-such-interface", &route, host);
	assert_string_equal(host, world);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_split), cmocka_unit_test(test_split_invalid), cmocka_unit_test(test_join),
	    cmocka_unit_test(test_host),  cmocka_unit_test(test_choose),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
