/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include "../example.h"

enum {
	PROGRESS_EVERY = 200
};

static void model_free(void *object)
{
	struct model *model = object;

	pthread_mutex_destroy(&model->lock);
	free(model);
}

tdr_value *model_new(void)
{
	struct model *model = calloc(1, sizeof(*model));

	if (!model) {
		fprintf(stderr, "no memory for a model\n");
		exit(1);
	}
	pthread_mutex_init(&model->lock, NULL);
	return tdr_native("digits::Model", model, model_free);
}

struct model *model_of(const tdr_value *value)
{
	void *model;

	must(tdr_value_get_native(value, "digits::Model", &model), "model");
	return model;
}

static tdr_status pull(tdr_call *call, void *context)
{
	struct model *self = tdr_arg_native(call, 0);
	tdr_tensor *copy;
	tdr_status status;

	pthread_mutex_lock(&self->lock);
	status = tdr_tensor_copy_of(self->weights, TDR_F32, TDR_SHAPE(MODEL_ROWS, CLASSES), &copy);
	pthread_mutex_unlock(&self->lock);
	if (status != TDR_OK)
		return status;
	status = tdr_return_tensor(call, copy);
	tdr_tensor_unref(copy);
	return status;
}

static tdr_status push(tdr_call *call, void *context)
{
	const tdr_tensor *gradient = tdr_arg_tensor(call, 1);
	const float *slopes = tdr_tensor_data(gradient);
	double loss = tdr_arg_float(call, 2), rate = tdr_arg_float(call, 3);
	struct model *self = tdr_arg_native(call, 0);
	int64_t version;

	if (tdr_tensor_dtype(gradient) != TDR_F32 || tdr_tensor_numel(gradient) != MODEL_SIZE ||
	    !tdr_tensor_is_contiguous(gradient))
		return tdr_fail(call, TDR_ETYPE, "a gradient is a contiguous f32 tensor of %d x %d", MODEL_ROWS,
		                CLASSES);
	pthread_mutex_lock(&self->lock);
	for (int i = 0; i < MODEL_SIZE; i++)
		self->weights[i] -= (float)rate * slopes[i];
	version = ++self->version;
	self->loss = version == 1 ? loss : 0.98 * self->loss + 0.02 * loss;
	loss = self->loss;
	pthread_mutex_unlock(&self->lock);
	if (version % PROGRESS_EVERY == 0) {
		printf("version %5lld   loss %.3f   (last push: %s)\n", (long long)version, loss,
		       tdr_call_worker_name(call));
		fflush(stdout);
	}
	return tdr_return_int(call, version);
}

void model_register(tdr_agent *agent)
{
	must(tdr_register(agent, "digits::Model::pull(digits::Model self) -> Tensor", pull, NULL, TDR_FUNCTION_INLINE),
	     "register");
	must(tdr_register(
		 agent, "digits::Model::push(digits::Model self, Tensor gradient, *, float loss, float lr=0.1) -> int",
		 push, NULL, TDR_FUNCTION_INLINE),
	     "register");
}
