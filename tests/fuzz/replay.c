/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target once over each file named, or over each file of each directory: the seeds as an ordinary test. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t nruns;

static int run_file(const char *path, size_t size)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data = malloc(size + 1);
	int failed = !file || !data || fread(data, 1, size, file) != size;

	if (failed) {
		perror(path);
	} else {
		(void)LLVMFuzzerTestOneInput(data, size);
		nruns++;
	}
	if (file)
		fclose(file);
	free(data);
	return failed;
}

static int run_path(const char *path)
{
	struct dirent *entry;
	struct stat status;
	DIR *directory;
	int failed = 0;

	if (stat(path, &status) != 0) {
		perror(path);
		return 1;
	}
	if (!S_ISDIR(status.st_mode))
		return run_file(path, (size_t)status.st_size);
	directory = opendir(path);
	if (!directory) {
		perror(path);
		return 1;
	}
	while ((entry = readdir(directory)) != NULL) {
		char *inner;

		if (entry->d_name[0] == '.')
			continue;
		if (asprintf(&inner, "%s/%s", path, entry->d_name) < 0)
			abort();
		failed |= run_path(inner);
		free(inner);
	}
	closedir(directory);
	return failed;
}

int main(int argc, char **argv)
{
	int failed = 0;

	for (int i = 1; i < argc; i++)
		failed |= run_path(argv[i]);
	printf("%zu inputs\n", nruns);
	return failed || nruns == 0;
}
