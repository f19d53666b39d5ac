/* peers — what the watchdog of a rank knows about the ranks, and what follows from it. No sockets and no clock here:
 * the thread in watch.c hands both in.
 *
 * Rank 0 hears every rank, the other ranks hear rank 0, and each hears itself. Two limits:
 *   silence   A rank that was heard before and is not heard for this long is stopped or lost. Ranks above 1 wait a
 *             quarter longer, so that of the ranks that miss rank 0 a single one reports it.
 *   timeout   No rank has made progress for this long, and one at least waits for another rank, a file or a device. A
 *             rank that computes is never timed alone: a long step is no fault. A rank that does not hear rank 0 counts
 *             for itself. */
#pragma once
#include "base/activity.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PEERS_HOST = 64, PEERS_TEXT = 512 };

typedef enum PulseKind { PULSE_ALIVE, PULSE_LEAVES, PULSE_END } PulseKind;

typedef struct Pulse { /* a datagram; the ranks of a job have one layout of memory */
  uint64_t token;      /* of the job: others are ignored */
  int32_t rank, kind;
  int64_t step;
  uint64_t count;
  int32_t activity;
  char what[36];
} Pulse;

typedef struct Peer {
  char host[PEERS_HOST];
  bool heard, left;
  double last, moved; /* when it was heard, and when its count changed */
  Pulse pulse;        /* the last one */
} Peer;

typedef struct Peers {
  int rank, size;
  double silence, timeout; /* seconds */
  double start, judged;    /* times of peers_create and of the last peers_judge */
  bool warned;
  Peer *peer; /* [size] */
} Peers;

typedef enum Verdict { VERDICT_NONE, VERDICT_WARN, VERDICT_END } Verdict;

/** peers_create — no rank has been heard yet. Hosts are for the caller to fill in.
 *  Errors  ERR_MEMORY */
int peers_create(Peers *p, int rank, int size, double silence, double timeout, double now);
void peers_destroy(Peers *p);
/** pulse_of — the pulse of a rank with that activity. */
Pulse pulse_of(uint64_t token, int rank, PulseKind kind, const Activity *a);
/** peers_hear — a pulse arrived, this rank's own included. */
void peers_hear(Peers *p, const Pulse *pulse, double now);
/** peers_judge — whether the job must end (text: why, one line), or a rank has never been heard (once; text: which).
 *  After a pause of its own, as of a job that was suspended as a whole, it gives every rank the full time again. */
Verdict peers_judge(Peers *p, double now, char text[PEERS_TEXT]);
