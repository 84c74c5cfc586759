/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw sockets over loopback: the floor that calls over tcp are measured against. Everything blocks.
 *
 * One end asks, the other answers until the connection ends: a ping with as many bytes; a stream, read into memory that
 * stays warm, with one byte once it is there.
 */
#ifndef BENCH_RAW_H
#define BENCH_RAW_H

#include <stddef.h>
#include <stdint.h>

#define RAW_PING_SIZE 64

/* A socket that listens on a free port of 127.0.0.1. */
int raw_listen(uint16_t *ret_port);

/* The two ends of a connection; `raw_accept` closes the listener. */
int raw_accept(int listener);
int raw_connect(uint16_t port);

/* Sends a ping and waits for the answer. */
void raw_ping(int fd);

/* Sends `size` bytes and waits until the other end has read them. */
void raw_stream(int fd, const void *data, size_t size);

/* Answers until the other end closes the connection, then closes this one. */
void raw_serve(int fd);

#endif
