/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strangers in numbers: while the members of a group call one another, every port that they listen on, the store's too,
 * is knocked at by whoever sends garbage, what was recorded elsewhere, or nothing; then by one who passes for a member
 * and sends what no member would. The first must not cost the group a call, the second no more than what was under way;
 * nothing of them is left.
 */
#include "base/macros.h"
#include "group/stranger.h"
#include "support/leaks.h"
#include "support/places.h"
#include "transport/link_internal.h"

#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	MEMBERS = 3,
	PORTS = MEMBERS + 1, /* the last one is the store's */
	STORE = MEMBERS,
	SILENCE_MS = 300,       /* how long a stranger may be silent at a member's port */
	MOST_GROWTH = 64 << 20, /* of resident memory, in bytes */
	MUCH = 1 << 20,
};

static struct group members;
static struct port store_port;
static uint16_t ports[PORTS];
static char url[64];
static _Thread_local uint64_t seed = 88172645463325252;

/* The members' calls, which go on all the time. */
static struct {
	pthread_t threads[MEMBERS];
	_Atomic bool over, lenient; /* lenient: an outcome may be unknown */
	_Atomic uint64_t failed;
} traffic;

static uint64_t next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void fill_random(uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)next_random();
}

/* ---- the group ---- */

static _Atomic unsigned secret_runs;

static tdr_status secret(tdr_call *call, void *context)
{
	atomic_fetch_add(&secret_runs, 1);
	return TDR_OK;
}

static void configure(size_t rank, tdr_agent_options *options)
{
	options->store = NULL;
	options->init_method = url;
	options->connect_timeout_ms = SILENCE_MS;
}

static void prepare(tdr_agent *agent, size_t rank)
{
	expect_ok(tdr_register(agent, "test::secret()", secret, NULL, TDR_FUNCTION_INLINE));
}

static void *call_others(void *context)
{
	size_t from = (size_t)(uintptr_t)context;

	for (size_t i = 0; !atomic_load(&traffic.over); i++) {
		tdr_status status = tdr_rpc_sync(members.agents[from], worker_name((from + 1 + i % 2) % MEMBERS),
		                                 "test::echo", TDR_ARGS("still here"), NULL, NULL);

		if (status != TDR_OK && !(status == TDR_EUNKNOWN_OUTCOME && atomic_load(&traffic.lenient)) &&
		    atomic_fetch_add(&traffic.failed, 1) == 0)
			expect_ok(status);
		pause_ms(1);
	}
	return NULL;
}

static int start(void **state)
{
	struct group_config config = {.configure = configure, .prepare = prepare};

	if (leaks_setup(state) != 0)
		return 1;
	store_port = port_reserve();
	snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", store_port.number);
	group_start(&members, MEMBERS, &config);
	for (size_t i = 0; i < MEMBERS; i++)
		ports[i] = member_port(&members, i);
	ports[STORE] = store_port.number;
	atomic_store(&traffic.over, false);
	atomic_store(&traffic.lenient, false);
	atomic_store(&traffic.failed, 0);
	atomic_store(&secret_runs, 0);
	for (size_t i = 0; i < MEMBERS; i++)
		if (pthread_create(&traffic.threads[i], NULL, call_others, (void *)(uintptr_t)i) != 0)
			return 1;
	return 0;
}

static int stop(void **state)
{
	atomic_store(&traffic.over, true);
	for (size_t i = 0; i < MEMBERS; i++)
		pthread_join(traffic.threads[i], NULL);
	group_end(&members);
	port_release(&store_port);
	return expectations_failed() > 0 || leaks_teardown(state) != 0;
}

/* ---- what holds after each kind ---- */

static int64_t info_of(size_t member, const char *key)
{
	tdr_value *info = NULL;
	int64_t number = -1;

	if (expect_ok(tdr_debug_info(members.agents[member], &info)) == TDR_OK)
		expect_ok(tdr_value_get_int(tdr_dict_get(info, key), &number));
	tdr_value_unref(info);
	return number;
}

/* Sockets that this process holds. */
static size_t sockets(void)
{
	DIR *directory = opendir("/proc/self/fd");
	struct dirent *entry;
	char target[64];
	size_t count = 0;

	while (directory && (entry = readdir(directory)))
		count += readlinkat(dirfd(directory), entry->d_name, target, sizeof(target)) > 7 &&
		         memcmp(target, "socket:", 7) == 0;
	if (directory)
		closedir(directory);
	return count;
}

static bool all_call_all(void *context)
{
	for (size_t from = 0; from < MEMBERS; from++)
		for (size_t to = 0; to < MEMBERS; to++)
			if (tdr_rpc_sync(members.agents[from], worker_name(to), "test::echo", TDR_ARGS(1), NULL,
			                 NULL) != TDR_OK)
				return false;
	return true;
}

static bool no_more_sockets(void *context)
{
	return sockets() <= *(size_t *)context;
}

static bool nothing_is_arriving(void *context)
{
	size_t arriving = 0;

	for (size_t i = 0; i < MEMBERS; i++) {
		struct links *links = members.agents[i]->links;

		pthread_mutex_lock(&links->lock);
		arriving += links->narrivals;
		pthread_mutex_unlock(&links->lock);
	}
	return arriving == 0;
}

/* ---- strangers ---- */

static int knock(size_t port)
{
	return stranger_knock(ports[port]);
}

static void say_once(size_t port, const void *bytes, size_t size)
{
	int fd = knock(port);

	stranger_say(fd, bytes, size);
	close(fd);
}

static void random_bytes(size_t port)
{
	uint8_t bytes[4096];

	for (int i = 0; i < 30; i++) {
		fill_random(bytes, sizeof(bytes));
		say_once(port, bytes, 1 + next_random() % sizeof(bytes));
	}
}

static void one_byte_all_over(size_t port)
{
	static const uint8_t fillings[] = {0x00, 0xff, 0x01, 'T', '\n'};
	uint8_t *bytes = malloc(MUCH);

	assert_non_null(bytes);
	for (size_t i = 0; i < COUNT_OF(fillings); i++) {
		memset(bytes, fillings[i], MUCH);
		say_once(port, bytes, MUCH);
	}
	free(bytes);
}

static void come_and_go(size_t port)
{
	for (int i = 0; i < 250; i++)
		close(knock(port));
}

static void say_nothing(size_t port)
{
	int fds[125];

	for (size_t i = 0; i < COUNT_OF(fds); i++)
		fds[i] = knock(port);
	expect_true(all_call_all(NULL));
	for (size_t i = 0; i < COUNT_OF(fds); i++)
		close(fds[i]);
}

/* ---- what members say, in the hands of strangers ---- */

/* A hello that fits, but for how many lanes there have been. */
static size_t write_hello(uint32_t lanes, uint8_t wire[STRANGER_WIRE_SIZE])
{
	struct hello hello = stranger_hello(&members);

	hello.lanes = lanes;
	return stranger_write_hello(&hello, wire);
}

static size_t write_call(uint64_t sequence, uint8_t *wire)
{
	struct encoder encoder;
	size_t size;

	encoder_init(&encoder, &codec_default_limits);
	encode_array(&encoder, 5);
	encode_string(&encoder, "test::secret", strlen("test::secret"));
	encode_uint(&encoder, 1);
	for (int i = 0; i < 3; i++)
		encode_nil(&encoder);
	size = stranger_write_frame(
	    &members,
	    (struct message_head){
		.type = MESSAGE_CALL, .call_id = 1, .sequence = sequence, .body_size = (uint32_t)encoder.body.size},
	    encoder.body.data, wire);
	encoder_fini(&encoder);
	return size;
}

/* A hello that was recorded when there was no lane yet, and the call that came after it. */
static void replayed_hello_and_call(size_t port)
{
	uint8_t wire[STRANGER_WIRE_SIZE];
	size_t size = write_hello(0, wire);

	size += write_call(2, wire + size);
	for (int i = 0; i < 30; i++)
		say_once(port, wire, size);
}

static void call_before_hello(size_t port)
{
	uint8_t wire[STRANGER_WIRE_SIZE];
	size_t size = write_call(1, wire);

	for (int i = 0; i < 30; i++)
		say_once(port, wire, size);
}

static void hello_twice(size_t port)
{
	uint8_t wire[STRANGER_WIRE_SIZE];
	size_t size = write_hello(0, wire);

	memcpy(wire + size, wire, size);
	for (int i = 0; i < 30; i++)
		say_once(port, wire, 2 * size);
}

/* At every place, and either hangs or ends there. */
static void hello_cut_short(size_t port)
{
	uint8_t wire[STRANGER_WIRE_SIZE];
	size_t size = write_hello(0, wire);
	int fds[512];

	expect_true(size <= COUNT_OF(fds));
	for (size_t i = 0; i < size; i++) {
		fds[i] = knock(port);
		stranger_say(fds[i], wire, i);
		if (i % 2)
			shutdown(fds[i], SHUT_WR);
	}
	expect_true(all_call_all(NULL));
	for (size_t i = 0; i < size; i++)
		close(fds[i]);
}

static void hello_with_a_byte_changed(size_t port)
{
	uint8_t wire[STRANGER_WIRE_SIZE];
	size_t size = write_hello(0, wire);

	for (size_t i = 0; i < size; i++) {
		wire[i] ^= 0xff;
		say_once(port, wire, size);
		wire[i] ^= 0xff;
	}
}

static void heads_that_promise_much(size_t port)
{
	static const struct message_head heads[] = {
	    {.type = MESSAGE_HELLO, .sequence = 1, .body_size = UINT32_MAX},
	    {.type = MESSAGE_HELLO, .sequence = 1, .body_size = 1 << 20},
	    {.type = MESSAGE_HELLO, .sequence = 1, .body_size = 1 << 20, .layout = MESSAGE_BODY_APART},
	    {.type = MESSAGE_HELLO, .sequence = 1, .nstorages = UINT32_MAX},
	    {.type = MESSAGE_CALL, .sequence = 1, .body_size = 64 << 20, .nstorages = 1000},
	    {.type = MESSAGE_CHUNK, .sequence = 1, .body_size = MESSAGE_CHUNK_MAX},
	};
	uint8_t *wire = calloc(1, MUCH);

	assert_non_null(wire);
	for (size_t i = 0; i < COUNT_OF(heads); i++) {
		stranger_write_frame(&members, heads[i], NULL, wire);
		say_once(port, wire, MUCH);
	}
	free(wire);
}

static void a_byte_now_and_then(size_t port)
{
	uint8_t wire[STRANGER_WIRE_SIZE];
	int fds[20];

	write_hello(0, wire);
	for (size_t i = 0; i < COUNT_OF(fds); i++)
		fds[i] = knock(port);
	for (size_t at = 0; at < 12; at++) {
		for (size_t i = 0; i < COUNT_OF(fds); i++)
			stranger_say(fds[i], &wire[at], 1);
		pause_ms(50);
	}
	for (size_t i = 0; i < COUNT_OF(fds); i++)
		close(fds[i]);
}

struct kind {
	const char *name;
	void (*act)(size_t port);
};

static const struct kind strangers[] = {
    {"random bytes", random_bytes},
    {"one byte all over", one_byte_all_over},
    {"come and go", come_and_go},
    {"say nothing", say_nothing},
    {"a recorded hello and call", replayed_hello_and_call},
    {"a call before the hello", call_before_hello},
    {"a hello twice", hello_twice},
    {"a hello cut short", hello_cut_short},
    {"a hello with a byte changed", hello_with_a_byte_changed},
    {"heads that promise much", heads_that_promise_much},
    {"a byte now and then", a_byte_now_and_then},
};

/* All ports at once. */
static void knock_at(void *context, size_t index)
{
	const struct kind *kind = context;

	kind->act(index);
}

static void strangers_cost_no_call(void **state)
{
	size_t before;
	int64_t resident;

	expect_true(all_call_all(NULL));
	before = sockets();
	resident = info_of(0, "agent.resident_bytes");
	in_parallel(PORTS, knock_at, *state);
	expect_true(all_call_all(NULL));
	eventually(nothing_is_arriving, NULL);
	eventually(no_more_sockets, &before);
	expect_true(info_of(0, "agent.resident_bytes") < resident + MOST_GROWTH);
	expect_true(atomic_load(&secret_runs) == 0);
	for (size_t i = 0; i < MEMBERS; i++) {
		expect_true(info_of(i, "agent.connections") == MEMBERS - 1);
		expect_true(info_of(i, "agent.calls_served_with_error") == 0);
	}
	expect_true(atomic_load(&traffic.failed) == 0);
}

/* ---- who passes for a member ---- */

static size_t random_bodies(uint8_t *wire, uint64_t sequence, const uint8_t *types, size_t ntypes)
{
	uint8_t body[64];
	size_t size = 0;

	while (size < STRANGER_WIRE_SIZE - 512) {
		struct message_head head = {
		    .type = types[next_random() % ntypes],
		    .call_id = next_random() % 4,
		    .sequence = sequence++,
		    .body_size = (uint32_t)(next_random() % sizeof(body)),
		};

		fill_random(body, sizeof(body));
		size += stranger_write_frame(&members, head, body, wire + size);
	}
	return size;
}

static size_t bad_calls(uint8_t *wire)
{
	static const uint8_t types[] = {MESSAGE_CALL, MESSAGE_CANCEL};

	return random_bodies(wire, 2, types, COUNT_OF(types));
}

static size_t bad_answers(uint8_t *wire)
{
	static const uint8_t types[] = {MESSAGE_REPLY, MESSAGE_ERROR};

	return random_bodies(wire, 2, types, COUNT_OF(types));
}

static size_t bad_collectives(uint8_t *wire)
{
	static const uint8_t types[] = {MESSAGE_GATHER, MESSAGE_SCATTER};

	return random_bodies(wire, 2, types, COUNT_OF(types));
}

static size_t bad_letters_about_references(uint8_t *wire)
{
	static const uint8_t types[] = {MESSAGE_RREF, MESSAGE_REMOTE_CALL, MESSAGE_FETCH};

	return random_bodies(wire, 2, types, COUNT_OF(types));
}

/* A name or number that may be anybody's, nobody's, or at the end of all. */
static uint64_t some_number(void)
{
	const uint64_t numbers[] = {
	    0,          1,
	    2,          next_random(),
	    UINT64_MAX, members.agents[0] ? tdr_agent_worker(members.agents[0]).incarnation : 3};

	return numbers[next_random() % COUNT_OF(numbers)];
}

static struct rref_id some_name(void)
{
	return (struct rref_id){
	    .incarnation = some_number(), .local = some_number(), .worker = (uint32_t)some_number()};
}

static void encode_lie(struct encoder *encoder, unsigned type)
{
	if (type == MESSAGE_RREF) {
		encode_array(encoder, 4);
		for (int i = 0; i < 4; i++)
			letter_encode(encoder, &(struct letter){.kind = (uint8_t)(1 + next_random() % LETTER_RECHECK),
			                                        .of = (uint8_t)(next_random() % 9),
			                                        .verdict = (uint8_t)(next_random() % 4),
			                                        .rref = some_name(),
			                                        .fork = some_name(),
			                                        .number = some_number(),
			                                        .origin = some_number()});
		return;
	}
	encode_array(encoder, 7);
	encode_string(encoder, "test::echo", strlen("test::echo"));
	encode_uint(encoder, 1);
	for (int i = 0; i < 3; i++)
		encode_nil(encoder);
	encode_array(encoder, 4);
	rref_id_encode(encoder, &(struct rref_id){some_number(), some_number(), (uint32_t)some_number()});
	encode_uint(encoder, some_number());
	encode_array(encoder, 3);
	encode_uint(encoder, some_number());
	encode_uint(encoder, some_number());
	encode_uint(encoder,
	            0); /* with any other it is a creation as good as any, which its maker would have to let go of */
}

/* All well formed, and none of it true. */
static size_t lies_about_references(uint8_t *wire)
{
	static const uint8_t types[] = {MESSAGE_RREF, MESSAGE_REMOTE_CALL, MESSAGE_FETCH};
	uint64_t sequence = 2;
	size_t size = 0;

	while (size < STRANGER_WIRE_SIZE - 1024) {
		struct message_head head = {
		    .type = types[next_random() % COUNT_OF(types)], .call_id = sequence, .sequence = sequence};
		struct encoder encoder;

		encoder_init(&encoder, &codec_default_limits);
		encode_lie(&encoder, head.type);
		head.body_size = (uint32_t)encoder.body.size;
		size += stranger_write_frame(&members, head, encoder.body.data, wire + size);
		encoder_fini(&encoder);
		sequence++;
	}
	return size;
}

static size_t greetings_again(uint8_t *wire)
{
	static const uint8_t types[] = {MESSAGE_HELLO, MESSAGE_WELCOME, MESSAGE_HEARTBEAT_ACK, MESSAGE_CREDIT};

	return random_bodies(wire, 2, types, COUNT_OF(types));
}

static size_t credit_past_all(uint8_t *wire)
{
	return stranger_write_frame(
	    &members, (struct message_head){.type = MESSAGE_CREDIT, .sequence = 2, .credit = UINT64_MAX}, NULL, wire);
}

static size_t acknowledges_what_was_not_sent(uint8_t *wire)
{
	return stranger_write_frame(
	    &members, (struct message_head){.type = MESSAGE_HEARTBEAT, .sequence = 2, .acknowledged = 1 << 30}, NULL,
	    wire);
}

static size_t chunk_of_no_message(uint8_t *wire)
{
	return stranger_write_frame(
	    &members, (struct message_head){.type = MESSAGE_CHUNK, .sequence = 1, .body_size = 64}, NULL, wire);
}

/* A storage of 32 GiB, of which a little comes. */
static size_t storage_that_never_comes(uint8_t *wire)
{
	uint64_t entry = MESSAGE_STORAGE_APART | UINT64_C(32) << 30;
	size_t size = stranger_write_frame(
	    &members, (struct message_head){.type = MESSAGE_CALL, .sequence = 2, .nstorages = 1}, NULL, wire);

	memcpy(wire + size, &entry, sizeof(entry));
	size += sizeof(entry);
	size += stranger_write_frame(&members,
	                             (struct message_head){.type = MESSAGE_CHUNK, .sequence = 2, .body_size = 4096},
	                             NULL, wire + size);
	memset(wire + size, 0, 1024);
	return size + 1024;
}

struct pretence {
	const char *name;
	size_t (*write)(uint8_t *wire); /* what comes after the hello */
};

static const struct pretence pretences[] = {
    {"bad calls", bad_calls},
    {"bad answers", bad_answers},
    {"bad collectives", bad_collectives},
    {"bad letters about references", bad_letters_about_references},
    {"lies about references", lies_about_references},
    {"greetings again", greetings_again},
    {"credit past all", credit_past_all},
    {"acknowledges what was not sent", acknowledges_what_was_not_sent},
    {"a chunk of no message", chunk_of_no_message},
    {"a storage that never comes", storage_that_never_comes},
};

/* Who sends member 1's hello takes its lane over; when he is found out, or goes, it is made anew. */
static void an_impostor_costs_no_more_than_what_was_under_way(void **state)
{
	const struct pretence *pretence = *state;
	int64_t resident = info_of(0, "agent.resident_bytes");
	size_t before;

	expect_true(all_call_all(NULL));
	before = sockets();
	atomic_store(&traffic.lenient, true);
	for (int round = 0; round < 3; round++) {
		uint8_t wire[2 * STRANGER_WIRE_SIZE];
		size_t size = write_hello(1000000, wire);
		int fd = knock(0);

		size += pretence->write(wire + size);
		stranger_say(fd, wire, size);
		pause_ms(50);
		close(fd);
		eventually(all_call_all, NULL);
	}
	eventually(all_call_all, NULL);
	eventually(no_more_sockets, &before);
	expect_true(info_of(0, "agent.resident_bytes") < resident + MOST_GROWTH);
	expect_true(atomic_load(&traffic.failed) == 0);
}

int main(void)
{
	struct CMUnitTest tests[COUNT_OF(strangers) + COUNT_OF(pretences)];
	struct rlimit files;
	size_t count = 0;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	for (size_t i = 0; i < COUNT_OF(strangers); i++)
		tests[count++] = (struct CMUnitTest){.name = strangers[i].name,
		                                     .test_func = strangers_cost_no_call,
		                                     .setup_func = start,
		                                     .teardown_func = stop,
		                                     .initial_state = (void *)&strangers[i]};
	for (size_t i = 0; i < COUNT_OF(pretences); i++)
		tests[count++] = (struct CMUnitTest){.name = pretences[i].name,
		                                     .test_func = an_impostor_costs_no_more_than_what_was_under_way,
		                                     .setup_func = start,
		                                     .teardown_func = stop,
		                                     .initial_state = (void *)&pretences[i]};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
