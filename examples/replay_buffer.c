/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A remote object, which several workers use by references to it: tendril run -n 5 -- ./replay_buffer
 *
 * The object is a replay buffer: actors push into it what they live through, while a learner samples it. Rank 0 learns.
 * It has rank 1 make the buffer, and hands the other ranks, the actors, a reference to it. The buffer never moves: "push"
 * and "sample" run where it is. It is freed when nobody refers to it any more.
 */
#include "example.h"

#include <pthread.h>
#include <string.h>

enum {
	COLUMNS = 3, /* a transition: state, action, reward */
	CAPACITY = 512,
	BATCH = 16, /* transitions that an actor pushes at once */
	BATCHES = 20,
	SAMPLE = 32,
	STEPS = 500, /* that the learner takes at the least */
};

/* A number from -1 to 1, the same ones in every run. */
static float draw(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	return (float)(*state >> 8) / (float)(1 << 23) - 1;
}

/* ---- the buffer ---- */

struct buffer {
	pthread_mutex_t lock; /* guards all below */
	int64_t capacity;
	int64_t pushed; /* ever; the newest `capacity` of them are kept */
	uint32_t random;
	float rows[][COLUMNS];
};

static void buffer_free(void *object)
{
	struct buffer *buffer = object;

	printf("nobody refers to the buffer any more: it is freed\n");
	pthread_mutex_destroy(&buffer->lock);
	free(buffer);
}

static int64_t buffer_kept(const struct buffer *buffer)
{
	return buffer->pushed < buffer->capacity ? buffer->pushed : buffer->capacity;
}

static tdr_status buffer_new(tdr_call *call, void *context)
{
	int64_t capacity = tdr_arg_int(call, 0);
	struct buffer *buffer;

	if (capacity < 1 || capacity > 1 << 24)
		return tdr_fail(call, TDR_EINVAL, "a capacity of %lld: give 1 to 2^24", (long long)capacity);
	buffer = calloc(1, sizeof(*buffer) + (size_t)capacity * sizeof(buffer->rows[0]));
	if (!buffer)
		return tdr_fail(call, TDR_ENOMEM, "no memory for %lld transitions", (long long)capacity);
	pthread_mutex_init(&buffer->lock, NULL);
	buffer->capacity = capacity;
	return tdr_return(call, tdr_native("replay::Buffer", buffer, buffer_free));
}

static tdr_status push(tdr_call *call, void *context)
{
	const tdr_tensor *batch = tdr_arg_tensor(call, 1);
	const float *rows = tdr_tensor_data(batch);
	struct buffer *self = tdr_arg_native(call, 0);

	if (tdr_tensor_dtype(batch) != TDR_F32 || tdr_tensor_ndim(batch) != 2 ||
	    tdr_tensor_sizes(batch)[1] != COLUMNS || !tdr_tensor_is_contiguous(batch))
		return tdr_fail(call, TDR_ETYPE, "transitions are a contiguous f32 tensor of n x %d", COLUMNS);
	pthread_mutex_lock(&self->lock);
	for (int64_t i = 0; i < tdr_tensor_sizes(batch)[0]; i++)
		memcpy(self->rows[self->pushed++ % self->capacity], rows + i * COLUMNS, sizeof(self->rows[0]));
	pthread_mutex_unlock(&self->lock);
	return tdr_return_none(call);
}

/* Any `count` rows, the same one perhaps twice; none from an empty buffer. */
static tdr_status sample(tdr_call *call, void *context)
{
	int64_t count = tdr_arg_int(call, 1), kept;
	struct buffer *self = tdr_arg_native(call, 0);
	tdr_tensor *drawn = NULL;
	tdr_status status;

	pthread_mutex_lock(&self->lock);
	kept = buffer_kept(self);
	count = kept > 0 ? count : 0;
	status = tdr_tensor_empty(TDR_F32, TDR_SHAPE(count, COLUMNS), &drawn);
	for (int64_t i = 0; status == TDR_OK && i < count; i++) {
		float *row = (float *)tdr_tensor_data(drawn) + i * COLUMNS;

		memcpy(row, self->rows[(int64_t)((draw(&self->random) + 1) / 2 * (float)kept) % kept],
		       sizeof(self->rows[0]));
	}
	pthread_mutex_unlock(&self->lock);
	if (status == TDR_OK)
		status = tdr_return_tensor(call, drawn);
	tdr_tensor_unref(drawn);
	return status;
}

static tdr_status size(tdr_call *call, void *context)
{
	struct buffer *self = tdr_arg_native(call, 0);
	int64_t kept;

	pthread_mutex_lock(&self->lock);
	kept = buffer_kept(self);
	pthread_mutex_unlock(&self->lock);
	return tdr_return_int(call, kept);
}

/* ---- an actor ---- */

/* Plays in a world whose reward is 2 * state - action + 0.5; returns how many transitions it has pushed. */
static tdr_status play(tdr_call *call, void *context)
{
	uint32_t random = tdr_agent_worker(context).id;
	tdr_rref *buffer = tdr_arg_rref(call, 0);
	tdr_status status = TDR_OK;

	for (int i = 0; i < BATCHES && status == TDR_OK; i++) {
		float rows[BATCH][COLUMNS];
		tdr_tensor *batch;

		for (int row = 0; row < BATCH; row++) {
			rows[row][0] = draw(&random);
			rows[row][1] = draw(&random);
			rows[row][2] = 2 * rows[row][0] - rows[row][1] + 0.5F;
		}
		status = tdr_tensor_copy_of(rows, TDR_F32, TDR_SHAPE(BATCH, COLUMNS), &batch);
		if (status != TDR_OK)
			break;
		status = tdr_rref_rpc_sync(buffer, "push", TDR_ARGS(batch), NULL, NULL);
		tdr_tensor_unref(batch);
	}
	return status == TDR_OK ? tdr_return_int(call, BATCHES * BATCH) : status;
}

/* ---- the learner ---- */

/* A step of gradient descent: reward = model[0] * state + model[1] * action + model[2]. */
static void improve(double model[COLUMNS], const tdr_tensor *drawn)
{
	const float *row = tdr_tensor_data(drawn);
	int64_t count = tdr_tensor_sizes(drawn)[0];
	double slope[COLUMNS] = {0};

	for (int64_t i = 0; i < count; i++, row += COLUMNS) {
		double state = (double)row[0], action = (double)row[1];
		double error = model[0] * state + model[1] * action + model[2] - (double)row[2];

		slope[0] += error * state;
		slope[1] += error * action;
		slope[2] += error;
	}
	for (int i = 0; i < COLUMNS && count > 0; i++)
		model[i] -= 0.3 * slope[i] / (double)count;
}

static int64_t int_of(tdr_value *value)
{
	int64_t number;

	must(tdr_value_get_int(value, &number), "number");
	return number;
}

static void learn(tdr_agent *agent)
{
	size_t nactors = tdr_worker_count(agent) - 2;
	tdr_future **actors = calloc(nactors, sizeof(tdr_future *)), *played;
	tdr_rref *buffer = tdr_remote(agent, "worker1", "replay::Buffer", TDR_ARGS(CAPACITY), NULL);
	double model[COLUMNS] = {0};
	int64_t pushed = 0;
	tdr_value *result;

	for (size_t i = 0; i < nactors; i++) {
		tdr_worker actor;

		must(tdr_worker_at(agent, i + 2, &actor), "actor");
		actors[i] = tdr_rpc_async(agent, actor.name, "actor::play", TDR_ARGS(buffer), NULL);
	}
	played = tdr_future_collect(tdr_agent_engine(agent), nactors, actors);
	for (int step = 0; step < STEPS || !tdr_future_done(played); step++) {
		tdr_tensor *drawn;

		must(tdr_rref_rpc_sync(buffer, "sample", TDR_ARGS(SAMPLE), NULL, &result), "sample");
		must(tdr_value_get_tensor(result, &drawn), "sample");
		improve(model, drawn);
		tdr_value_unref(result);
	}
	must(tdr_future_wait(played, TDR_TIMEOUT_NEVER, &result), "play");
	for (size_t i = 0; i < nactors; i++) {
		pushed += int_of(tdr_value_item(result, i));
		tdr_future_unref(actors[i]);
	}
	tdr_value_unref(result);
	must(tdr_rref_rpc_sync(buffer, "size", TDR_NO_ARGS, TDR_NO_ARGS, &result), "size");
	printf("%zu actors pushed %lld transitions to %s, which keeps %lld\n", nactors, (long long)pushed,
	       tdr_rref_owner_name(buffer), (long long)int_of(result));
	printf("learnt: reward = %.2f * state %+.2f * action %+.2f\n", model[0], model[1], model[2]);
	tdr_value_unref(result);
	tdr_future_unref(played);
	tdr_rref_unref(buffer);
	free(actors);
}

int main(void)
{
	tdr_agent *agent = example_agent("worker");

	must(tdr_register(agent, "replay::Buffer(int capacity) -> replay::Buffer", buffer_new, NULL, 0), "register");
	must(tdr_register(agent, "replay::Buffer::push(replay::Buffer self, Tensor batch)", push, NULL,
	                  TDR_FUNCTION_INLINE),
	     "register");
	must(tdr_register(agent, "replay::Buffer::sample(replay::Buffer self, int count) -> Tensor", sample, NULL,
	                  TDR_FUNCTION_INLINE),
	     "register");
	must(tdr_register(agent, "replay::Buffer::size(replay::Buffer self) -> int", size, NULL, TDR_FUNCTION_INLINE),
	     "register");
	must(tdr_register(agent, "actor::play(RRef buffer) -> int", play, agent, 0), "register");
	must(tdr_join(agent), "join");
	if (tdr_worker_count(agent) < 3) {
		fprintf(stderr, "usage: tendril run -n 5 -- ./replay_buffer\n");
		return 2;
	}
	if (tdr_agent_worker(agent).id == 0)
		learn(agent);
	must(tdr_shutdown(agent, NULL), "shutdown");
	return 0;
}
