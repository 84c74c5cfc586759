/* SPDX-License-Identifier: Apache-2.0 */
/* The store's server without sockets: transcripts of both versions of the wire, byte by byte, and its limits. */
#include "base/error.h"
#include "peers.h"
#include "store/service.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static int setup(void **state)
{
	struct service *service = malloc(sizeof(*service));

	service_init(service, 1024, 16);
	*state = service;
	return 0;
}

static int teardown(void **state)
{
	struct service *service = *state;
	size_t left = service->kept;

	service_fini(service);
	free(service);
	return left != 0;
}

/* Takes what the session has to send, which must be `expected`. */
static void expect(struct session *session, const char *expected, size_t size)
{
	struct wire_bytes output = session_output(session);

	assert_int_equal(output.size, size);
	if (size > 0)
		assert_memory_equal(output.data, expected, size);
	session_sent(session, output.size);
}

static void feed(struct session *session, const char *data, size_t size)
{
	tdr_status status = session_feed(session, data, size);

	if (status != TDR_OK)
		print_error("%s\n", tdr_last_error());
	assert_int_equal(status, TDR_OK);
}

/* Feeds one request, whole, to a session of version 2, and checks its answer. */
static void talk(struct session *session, const char *request, size_t request_size, const char *answer,
                 size_t answer_size)
{
	feed(session, request, request_size);
	expect(session, answer, answer_size);
}

/* Lets the session go on to which another has given an answer: it must be the only one. */
static void run_ready(struct service *service, struct session *session)
{
	struct list *node = list_shift(&service->ready);

	assert_non_null(node);
	assert_ptr_equal(list_entry(node, struct session, ready), session);
	assert_true(list_empty(&service->ready));
	assert_int_equal(session_run(session), TDR_OK);
}

/* What must be refused, on a session of its own. */
static void refuse(struct service *service, const char *request, size_t size, tdr_status expected, const char *words)
{
	struct session session;

	session_init(&session, service);
	assert_int_equal(session_feed(&session, request, size), expected);
	if (!strstr(tdr_last_error(), words))
		fail_msg("'%s' is not in '%s'", words, tdr_last_error());
	session_fini(&session);
}

struct line {
	const char *request;
	size_t request_size;
	const char *answer;
	size_t answer_size;
};

static const struct line version_2[] = {
    {BYTES(GREETING), BYTES("")},
    {BYTES("\x07"), BYTES(N("\0"))},                                /* GETNUMKEYS */
    {BYTES("\x01" N("\2") "/a" N("\3") "x\0y"), BYTES("")},         /* SET */
    {BYTES("\x03" N("\2") "/a"), BYTES(N("\3") "x\0y")},            /* GET */
    {BYTES("\x06" N("\1") N("\2") "/a"), BYTES("\0")},              /* WAIT */
    {BYTES("\x06" N("\0")), BYTES("\0")},                           /* WAIT for nothing */
    {BYTES("\x05" N("\1") N("\2") "/a"), BYTES("\0")},              /* CHECK */
    {BYTES("\x05" N("\2") N("\2") "/a" N("\2") "/b"), BYTES("\1")}, /* CHECK */
    {BYTES("\x04" N("\2") "/n" N("\5")), BYTES(N("\5"))},           /* ADD */
    {BYTES("\x04" N("\2") "/n"
                          "\xF8\xFF\xFF\xFF\xFF\xFF\xFF\xFF"),                  /* ADD -8 */
     BYTES("\xFD\xFF\xFF\xFF\xFF\xFF\xFF\xFF")},                                /* -3 */
    {BYTES("\x03" N("\2") "/n"), BYTES(N("\2") "-3")},                          /* GET: decimal text */
    {BYTES("\x02" N("\2") "/c" N("\1") "x" N("\1") "y"), BYTES(N("\1") "x")},   /* COMPARE_SET: missing */
    {BYTES("\x05" N("\1") N("\2") "/c"), BYTES("\1")},                          /* stored nothing */
    {BYTES("\x02" N("\2") "/c" N("\0") N("\1") "y"), BYTES(N("\1") "y")},       /* COMPARE_SET: missing, "" */
    {BYTES("\x02" N("\2") "/c" N("\1") "x" N("\1") "z"), BYTES(N("\1") "y")},   /* COMPARE_SET: differs */
    {BYTES("\x02" N("\2") "/c" N("\1") "y" N("\2") "zz"), BYTES(N("\2") "zz")}, /* COMPARE_SET: equal */
    {BYTES("\x09" N("\2") "/c" N("\2") "+1"), BYTES("")},                       /* APPEND */
    {BYTES("\x09" N("\2") "/d" N("\2") "+2"), BYTES("")},                       /* APPEND: missing */
    {BYTES("\x0A" N("\2") N("\2") "/c" N("\2") "/d"), BYTES(N("\4") "zz+1" N("\2") "+2")}, /* MULTI_GET */
    {BYTES("\x0B" N("\2") N("\2") "/e" N("\1") "1" N("\2") "/f" N("\0")), BYTES("")},      /* MULTI_SET */
    {BYTES("\x0A" N("\2") N("\2") "/e" N("\2") "/f"), BYTES(N("\1") "1" N("\0"))},         /* MULTI_GET */
    {BYTES("\x07"), BYTES(N("\6"))},                                                       /* GETNUMKEYS */
    {BYTES("\x08" N("\2") "/a"), BYTES(N("\1"))},                                          /* DELETE_KEY */
    {BYTES("\x08" N("\2") "/a"), BYTES(N("\0"))},                                          /* DELETE_KEY */
    {BYTES("\x0D\x12\x34\x56\x78"), BYTES("\x12\x34\x56\x78")},                            /* PING */
    {BYTES("\x0C"), BYTES("\1")},                                                          /* CANCEL_WAIT of nothing */
    {BYTES("\x0E" N("\2") "/q" N("\1") "A"), BYTES("")},                                   /* QUEUE_PUSH */
    {BYTES("\x0E" N("\2") "/q" N("\1") "B"), BYTES("")},                                   /* QUEUE_PUSH */
    {BYTES("\x10" N("\2") "/q"), BYTES(N("\2"))},                                          /* QUEUE_LEN */
    {BYTES("\x0F" N("\2") "/q"), BYTES(N("\2") N("\1") "A")},                              /* QUEUE_POP */
    {BYTES("\x05" N("\1") N("\2") "/q"), BYTES("\0")},                                     /* CHECK: a queue counts */
    {BYTES("\x0F" N("\2") "/q"), BYTES(N("\1") N("\1") "B")},                              /* QUEUE_POP */
    {BYTES("\x0F" N("\2") "/q"), BYTES(N("\0"))},                                          /* QUEUE_POP: empty */
    {BYTES("\x10" N("\2") "/q"), BYTES(N("\0"))},                                          /* QUEUE_LEN */
    {BYTES("\x05" N("\1") N("\2") "/q"), BYTES("\1")},                                     /* CHECK */
    {BYTES("\x0E" N("\2") "/q" N("\0")), BYTES("")},                                       /* QUEUE_PUSH: empty item */
    {BYTES("\x08" N("\2") "/q"), BYTES(N("\1"))},                                          /* DELETE_KEY: a queue */
    {BYTES(GREETING), BYTES("")},                                                          /* VALIDATE again */
};

static const struct line version_1[] = {
    {BYTES("\x06"), BYTES(N("\0"))},                                      /* GETNUMKEYS */
    {BYTES("\x00" N("\2") "/a" N("\3") "x\0y"), BYTES("")},               /* SET */
    {BYTES("\x02" N("\2") "/a"), BYTES(N("\3") "x\0y")},                  /* GET */
    {BYTES("\x05" N("\1") N("\2") "/a"), BYTES("\0")},                    /* WAIT */
    {BYTES("\x04" N("\2") N("\2") "/a" N("\2") "/b"), BYTES("\1")},       /* CHECK */
    {BYTES("\x03" N("\2") "/n" N("\5")), BYTES(N("\5"))},                 /* ADD */
    {BYTES("\x03" N("\5") "init/" N("\1")), BYTES(N("\1"))},              /* ADD: a worker announces itself */
    {BYTES("\x01" N("\2") "/c" N("\0") N("\1") "y"), BYTES(N("\1") "y")}, /* COMPARE_SET */
    {BYTES("\x07" N("\2") "/a"), BYTES("\3")},                            /* WATCH_KEY */
    {BYTES("\x08" N("\2") "/a"), BYTES(N("\1"))},                         /* DELETE_KEY */
    {BYTES("\x06"), BYTES(N("\3"))},                                      /* GETNUMKEYS */
};

/* All lines, fed in pieces of `piece` bytes; the answers must come in order and nothing else. */
static void transcript(struct service *service, const struct line *lines, size_t count, size_t piece)
{
	struct session session;

	session_init(&session, service);
	for (size_t i = 0; i < count; i++) {
		for (size_t at = 0; at < lines[i].request_size; at += piece) {
			size_t size = MIN_OF(piece, lines[i].request_size - at);

			if (at > 0)
				assert_int_equal(session_output(&session).size, 0); /* not before it is whole */
			feed(&session, lines[i].request + at, size);
		}
		expect(&session, lines[i].answer, lines[i].answer_size);
		assert_int_equal(session.input.size, 0);
	}
	session_fini(&session);
}

static void test_version_2_byte_by_byte(void **state)
{
	transcript(*state, version_2, COUNT_OF(version_2), 1);
}

static void test_version_2_in_pieces(void **state)
{
	transcript(*state, version_2, COUNT_OF(version_2), 7);
}

static void test_version_1_byte_by_byte(void **state)
{
	transcript(*state, version_1, COUNT_OF(version_1), 1);
}

static void test_version_1_whole(void **state)
{
	transcript(*state, version_1, COUNT_OF(version_1), SIZE_MAX);
}

/* All requests of a transcript at once, as nobody sends them, give all answers at once. */
static void test_all_at_once(void **state)
{
	struct buffer requests = {0}, answers = {0};
	struct session session;

	for (size_t i = 0; i < COUNT_OF(version_2); i++) {
		buffer_append(&requests, version_2[i].request, version_2[i].request_size);
		buffer_append(&answers, version_2[i].answer, version_2[i].answer_size);
	}
	session_init(&session, *state);
	talk(&session, (const char *)requests.data, requests.size, (const char *)answers.data, answers.size);
	session_fini(&session);
	buffer_fini(&requests);
	buffer_fini(&answers);
}

/* Both versions see one table. */
static void test_versions_share(void **state)
{
	struct session one, two;

	session_init(&one, *state);
	session_init(&two, *state);
	talk(&one, BYTES("\x00" N("\2") "/a" N("\1") "1"), BYTES(""));
	talk(&two, BYTES(GREETING "\x03" N("\2") "/a"), BYTES(N("\1") "1"));
	session_fini(&one);
	session_fini(&two);
}

/* A wait ends with the last of its keys, however that comes to be. */
static void test_wait_is_woken(void **state)
{
	static const struct line wakers[] = {
	    {BYTES("\x01" N("\2") "/k" N("\1") "1"), BYTES("")},                  /* SET */
	    {BYTES("\x04" N("\2") "/k" N("\1")), BYTES(N("\1"))},                 /* ADD */
	    {BYTES("\x02" N("\2") "/k" N("\0") N("\1") "1"), BYTES(N("\1") "1")}, /* COMPARE_SET */
	    {BYTES("\x09" N("\2") "/k" N("\1") "1"), BYTES("")},                  /* APPEND */
	    {BYTES("\x0B" N("\1") N("\2") "/k" N("\1") "1"), BYTES("")},          /* MULTI_SET */
	    {BYTES("\x0E" N("\2") "/k" N("\1") "1"), BYTES("")},                  /* QUEUE_PUSH */
	};
	struct session waiter, waker;

	session_init(&waiter, *state);
	session_init(&waker, *state);
	feed(&waiter, BYTES(GREETING));
	talk(&waker, BYTES(GREETING "\x01" N("\2") "/j" N("\0")), BYTES(""));
	for (size_t i = 0; i < COUNT_OF(wakers); i++) {
		talk(&waiter, BYTES("\x06" N("\3") N("\2") "/j" N("\2") "/k" N("\2") "/k"), BYTES(""));
		talk(&waker, wakers[i].request, wakers[i].request_size, wakers[i].answer, wakers[i].answer_size);
		run_ready(*state, &waiter);
		expect(&waiter, BYTES("\0"));
		talk(&waker, BYTES("\x08" N("\2") "/k"), BYTES(N("\1")));
	}
	session_fini(&waiter);
	session_fini(&waker);
}

/* A key that goes again before the last one comes is waited for again. */
static void test_wait_sees_deletes(void **state)
{
	struct session waiter, other;

	session_init(&waiter, *state);
	session_init(&other, *state);
	talk(&waiter, BYTES(GREETING "\x06" N("\2") N("\2") "/a" N("\2") "/b"), BYTES(""));
	talk(&other, BYTES(GREETING "\x01" N("\2") "/a" N("\0")), BYTES(""));
	talk(&other, BYTES("\x08" N("\2") "/a"), BYTES(N("\1")));
	talk(&other, BYTES("\x01" N("\2") "/b" N("\0")), BYTES(""));
	expect(&waiter, BYTES(""));
	talk(&other, BYTES("\x01" N("\2") "/a" N("\0")), BYTES(""));
	expect(&waiter, BYTES("\0"));
	session_fini(&waiter);
	session_fini(&other);
}

/* GET and MULTI_GET of a key that is not there wait for its value; a queue is none. */
static void test_get_waits(void **state)
{
	struct session one, several, other;

	session_init(&one, *state);
	session_init(&several, *state);
	session_init(&other, *state);
	talk(&one, BYTES(GREETING "\x03" N("\2") "/a"), BYTES(""));
	talk(&several, BYTES(GREETING "\x0A" N("\2") N("\2") "/b" N("\2") "/a"), BYTES(""));
	talk(&other, BYTES(GREETING "\x0E" N("\2") "/a" N("\1") "q"), BYTES(""));
	expect(&one, BYTES(""));
	talk(&other, BYTES("\x01" N("\2") "/a" N("\2") "v1"), BYTES(""));
	expect(&one, BYTES(N("\2") "v1"));
	expect(&several, BYTES(""));
	talk(&other, BYTES("\x01" N("\2") "/a" N("\2") "v2"), BYTES(""));
	talk(&other, BYTES("\x01" N("\2") "/b" N("\1") "w"), BYTES(""));
	expect(&several, BYTES(N("\1") "w" N("\2") "v2"));
	session_fini(&one);
	session_fini(&several);
	session_fini(&other);
}

/* One item of a queue wakes one, the longest to wait; the next one the next. */
static void test_queue_wakes_one(void **state)
{
	struct session first, second, other;

	session_init(&first, *state);
	session_init(&second, *state);
	session_init(&other, *state);
	talk(&first, BYTES(GREETING "\x06" N("\1") N("\2") "/q"), BYTES(""));
	talk(&second, BYTES(GREETING "\x06" N("\1") N("\2") "/q"), BYTES(""));
	talk(&other, BYTES(GREETING "\x0E" N("\2") "/q" N("\1") "A"), BYTES(""));
	expect(&first, BYTES("\0"));
	expect(&second, BYTES(""));
	talk(&first, BYTES("\x0F" N("\2") "/q"), BYTES(N("\1") N("\1") "A"));
	talk(&other, BYTES("\x0E" N("\2") "/q" N("\1") "B"), BYTES(""));
	expect(&second, BYTES("\0"));
	session_fini(&first);
	session_fini(&second);
	session_fini(&other);
}

/* Version 2: a wait that is cancelled has no other answer; what stands behind a wait is served after it, in order. */
static void test_cancel_and_hold(void **state)
{
	struct session waiter, other;

	session_init(&waiter, *state);
	session_init(&other, *state);
	talk(&waiter, BYTES(GREETING "\x06" N("\1") N("\2") "/a"), BYTES(""));
	talk(&waiter, BYTES("\x0C"), BYTES("\1"));
	talk(&other, BYTES(GREETING "\x01" N("\2") "/a" N("\1") "1"), BYTES(""));
	expect(&waiter, BYTES(""));
	talk(&waiter,
	     BYTES("\x06" N("\1") N("\2") "/b"
	                                  "\x03" N("\2") "/b"
	                                                 "\x07"),
	     BYTES(""));
	assert_true(waiter.held);
	talk(&other, BYTES("\x01" N("\2") "/b" N("\1") "2"), BYTES(""));
	run_ready(*state, &waiter);
	expect(&waiter, BYTES("\0" N("\1") "2" N("\2")));
	/* the answer and the cancellation cross */
	talk(&waiter, BYTES("\x06" N("\1") N("\2") "/c"), BYTES(""));
	talk(&other, BYTES("\x01" N("\2") "/c" N("\0")), BYTES(""));
	run_ready(*state, &waiter);
	talk(&waiter, BYTES("\x0C"), BYTES("\0\1"));
	session_fini(&waiter);
	session_fini(&other);
}

/* Version 1 cannot cancel: a client that asks for something else has given its wait up, and must not be answered to it. */
static void test_version_1_gives_up(void **state)
{
	struct session waiter, other;

	session_init(&waiter, *state);
	session_init(&other, *state);
	talk(&waiter, BYTES("\x05" N("\1") N("\2") "/a"), BYTES(""));
	talk(&waiter, BYTES("\x06"), BYTES(N("\0")));
	talk(&other, BYTES("\x00" N("\2") "/a" N("\0")), BYTES(""));
	expect(&waiter, BYTES(""));
	talk(&waiter, BYTES("\x06"), BYTES(N("\1")));
	session_fini(&waiter);
	session_fini(&other);
}

/* A session that ends in the middle of a wait leaves nothing behind to be woken. */
static void test_end_while_waiting(void **state)
{
	struct service *service = *state;
	struct session waiter, other;

	session_init(&waiter, service);
	session_init(&other, service);
	talk(&waiter, BYTES(GREETING "\x06" N("\2") N("\2") "/a" N("\2") "/b"), BYTES(""));
	session_fini(&waiter);
	assert_null(service->waits.spots);
	talk(&other, BYTES(GREETING "\x0B" N("\2") N("\2") "/a" N("\0") N("\2") "/b" N("\0")), BYTES(""));
	assert_true(list_empty(&service->ready));
	session_fini(&other);
}

static void test_refused(void **state)
{
	struct service *service = *state;

	refuse(service, BYTES("GET / HTTP/1.1\r\n"), TDR_EPROTO, "unknown request type 71");
	refuse(service, BYTES("\x09"), TDR_EPROTO, "unknown request type 9");
	refuse(service, BYTES(GREETING "\x11"), TDR_EPROTO, "unknown request type 17 (version 2)");
	refuse(service, BYTES(GREETING "\x00\xCE\xF7\x85\x3D"), TDR_EPROTO, "magic number 0x3D85F7CE");
	refuse(service, BYTES("\x00\xCE\xF7\x85\x3D\0\0\0\0"), TDR_ELIMIT, "SET with a key of 1032189902 bytes");
	refuse(service, BYTES(GREETING "\x03\x01\x20\0\0\0\0\0\0"), TDR_ELIMIT,
	       "GET with a key of 8193 bytes, but 8192");
	refuse(service, BYTES(GREETING "\x01" N("\1") "a\x01\x04\0\0\0\0\0\0"), TDR_ELIMIT,
	       "SET with a value of 1025 bytes, but 1024");
	refuse(service, BYTES(GREETING "\x01" N("\1") "a\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"), TDR_ELIMIT,
	       "SET with a value of 18446744073709551615 bytes");
	refuse(service, BYTES(GREETING "\x06\x01\0\2\0\0\0\0\0"), TDR_ELIMIT, "WAIT of 131073 keys, but 131072");
	refuse(service, BYTES(GREETING "\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F"), TDR_ELIMIT, "MULTI_GET of");
	refuse(service, BYTES(GREETING "\x01" N("\1") "a" N("\1") "x\x04" N("\1") "a" N("\1")), TDR_EINVAL,
	       "no decimal number");
	refuse(service, BYTES(GREETING "\x01" N("\1") "a" N("\x13") "9223372036854775807\x04" N("\1") "a" N("\1")),
	       TDR_ELIMIT, "more than 64 bits hold");
}

static void test_limit_of_keys(void **state)
{
	char set[] = GREETING "\x01" N("\1") "a" N("\0");
	struct session session;

	session_init(&session, *state);
	feed(&session, set, sizeof(set) - 1);
	for (int key = 'b'; key < 'a' + 15; key++) {
		set[14] = (char)key;
		feed(&session, set + 5, sizeof(set) - 6);
	}
	/* an item of a queue counts as a key, what is there already does not count again */
	feed(&session, BYTES("\x0E" N("\1") "q" N("\0")));
	feed(&session, BYTES("\x01" N("\1") "a" N("\1") "1"));
	assert_int_equal(session_feed(&session, BYTES("\x0E" N("\1") "q" N("\0"))), TDR_ELIMIT);
	session_fini(&session);
	session_init(&session, *state);
	assert_int_equal(session_feed(&session, BYTES(GREETING "\x04" N("\1") "z" N("\1"))), TDR_ELIMIT);
	assert_non_null(strstr(tdr_last_error(), "16 keys"));
	session_fini(&session);
}

/* A value grows to the limit and no further. */
static void test_limit_of_append(void **state)
{
	struct buffer append = {0};
	struct session session;
	char bytes[1024] = {0};

	wire_put_u8(&append, QUERY_APPEND);
	wire_put_bytes(&append, "a", 1);
	wire_put_bytes(&append, bytes, sizeof(bytes));
	session_init(&session, *state);
	feed(&session, BYTES(GREETING));
	feed(&session, (const char *)append.data, append.size);
	assert_int_equal(session_feed(&session, BYTES("\x09" N("\1") "a" N("\1") "x")), TDR_ELIMIT);
	session_fini(&session);
	buffer_fini(&append);
}

/* A length that promises much takes no memory until the bytes are there; a request is limited as a whole, too. */
static void test_limit_of_request(void **state)
{
	struct service *service = *state;
	struct session session;
	char chunk[8 + 1024];
	tdr_status status = TDR_OK;
	size_t fed = 0;

	service->limits.max_request_size = 100000;
	memset(chunk, 0, sizeof(chunk));
	chunk[1] = 4; /* 1024 */
	session_init(&session, service);
	feed(&session, BYTES(GREETING "\x06\0\0\2\0\0\0\0\0"));
	assert_in_range(session.kept, 0, 4096);
	for (; status == TDR_OK && fed < 200000; fed += sizeof(chunk))
		status = session_feed(&session, chunk, sizeof(chunk));
	assert_int_equal(status, TDR_ELIMIT);
	assert_non_null(strstr(tdr_last_error(), "WAIT of more than 100000 bytes"));
	assert_in_range(fed, 99000, 102000);
	session_fini(&session);
}

/* All sessions together keep to a limit; the one that goes past it is dropped, and those that keep little are not. */
static void test_limit_of_all(void **state)
{
	struct service *service = *state;
	struct session sessions[4];
	struct buffer part = {0};
	tdr_status status = TDR_OK;
	int refused = 0;

	service->limits = (struct wire_limits){.max_value_size = 1 << 20, .max_request_size = 4 << 20};
	service->max_kept = 1 << 20;
	wire_put_greeting(&part);
	wire_put_u8(&part, QUERY_SET);
	wire_put_bytes(&part, "a", 1);
	wire_put_u64(&part, 1 << 20);
	memset(buffer_reserve(&part, 400000), 0, 400000);
	part.size += 400000;
	for (int i = 0; i < 4; i++) {
		session_init(&sessions[i], service);
		status = session_feed(&sessions[i], part.data, part.size);
		refused += status == TDR_ELIMIT;
		if (status != TDR_OK) {
			session_fini(&sessions[i]);
			session_init(&sessions[i], service);
			talk(&sessions[i], BYTES("\x06"), BYTES(N("\0")));
		}
	}
	assert_int_equal(refused, 2);
	for (int i = 0; i < 4; i++)
		session_fini(&sessions[i]);
	buffer_fini(&part);
}

/* A client that does not read its answers is served no further until it does, and keeps no more than its share. */
static void test_limit_of_output(void **state)
{
	struct service *service = *state;
	struct session session;
	char asks[1024];
	size_t fed = 0, answered = 0, sent;

	session_init(&session, service);
	memset(asks, QUERY_NUM_KEYS, sizeof(asks));
	feed(&session, BYTES(GREETING));
	for (; session_wants_input(&session); fed += sizeof(asks))
		feed(&session, asks, sizeof(asks));
	assert_in_range(fed, 1, 64 << 10);
	feed(&session, asks, sizeof(asks)); /* what was under way already */
	fed += sizeof(asks);
	assert_in_range(session_output(&session).size, 1, (256 << 10) + 8);
	for (;;) {
		sent = MIN_OF(session_output(&session).size, (size_t)100000);
		session_sent(&session, sent);
		answered += sent;
		if (session_can_run(&session))
			assert_int_equal(session_run(&session), TDR_OK);
		else if (sent == 0)
			break;
	}
	assert_int_equal(answered, fed * 8);
	assert_true(session_wants_input(&session));
	session_fini(&session);
}

/* An answer that is too large is refused, also where another's SET brings it about. */
static void test_limit_of_answer(void **state)
{
	struct service *service = *state;
	struct session reader, waiter, other;

	service->max_answer_size = 20;
	session_init(&reader, service);
	session_init(&waiter, service);
	session_init(&other, service);
	talk(&waiter, BYTES(GREETING "\x0A" N("\2") N("\1") "a" N("\1") "b"), BYTES(""));
	talk(&other, BYTES(GREETING "\x01" N("\1") "a" N("\4") "1234"), BYTES(""));
	talk(&other, BYTES("\x01" N("\1") "b" N("\4") "1234"), BYTES(""));
	assert_false(list_empty(&service->ready));
	assert_int_equal(session_run(&waiter), TDR_ELIMIT);
	assert_int_equal(session_feed(&reader, BYTES(GREETING "\x0A" N("\2") N("\1") "a" N("\1") "b")), TDR_ELIMIT);
	session_fini(&reader);
	session_fini(&waiter);
	session_fini(&other);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_version_2_byte_by_byte),
	    TEST(test_version_2_in_pieces),
	    TEST(test_version_1_byte_by_byte),
	    TEST(test_version_1_whole),
	    TEST(test_all_at_once),
	    TEST(test_versions_share),
	    TEST(test_wait_is_woken),
	    TEST(test_wait_sees_deletes),
	    TEST(test_get_waits),
	    TEST(test_queue_wakes_one),
	    TEST(test_cancel_and_hold),
	    TEST(test_version_1_gives_up),
	    TEST(test_end_while_waiting),
	    TEST(test_refused),
	    TEST(test_limit_of_keys),
	    TEST(test_limit_of_append),
	    TEST(test_limit_of_request),
	    TEST(test_limit_of_all),
	    TEST(test_limit_of_output),
	    TEST(test_limit_of_answer),
	};

	return cmocka_run_group_tests_name("service", tests, NULL, NULL);
}
