#include "dist/peers.h"
#include "base/err.h"
#include "base/mem.h"
#include <stdio.h>
#include <string.h>

int peers_create(Peers *p, int rank, int size, double silence, double timeout, double now) {
  *p = (Peers){.rank = rank, .size = size, .silence = silence, .timeout = timeout, .start = now, .judged = now};
  return mem_alloc(&p->peer, (size_t)size * sizeof *p->peer);
}

void peers_destroy(Peers *p) {
  mem_free(&p->peer);
  *p = (Peers){0};
}

Pulse pulse_of(uint64_t token, int rank, PulseKind kind, const Activity *a) {
  Pulse p = {.token = token, .rank = rank, .kind = (int32_t)kind, .step = a->step, .count = a->count};
  p.activity = (int32_t)a->kind;
  snprintf(p.what, sizeof p.what, "%s", a->what);
  return p;
}

void peers_hear(Peers *p, const Pulse *pulse, double now) {
  Peer *peer = &p->peer[pulse->rank];
  if (!peer->heard || pulse->count != peer->pulse.count) peer->moved = now;
  peer->heard = true;
  peer->left = pulse->kind == PULSE_LEAVES;
  peer->last = now;
  peer->pulse = *pulse;
}

/* "waits in an all-reduce of step 12" */
static const char *doing(const Peer *peer, char text[128]) {
  static const char *const verbs[] = {"is in", "waits in", "waits for", "waits for"};
  const Pulse *p = &peer->pulse;
  int n = snprintf(text, 128, "%s %s", verbs[p->activity], p->what);
  if (p->step >= 0) snprintf(text + n, 128 - (size_t)n, " of step %lld", (long long)p->step);
  return text;
}

static bool waits(const Peer *peer) { return peer->pulse.activity != ACTIVITY_COMPUTE; }
static bool counts(const Peer *peer) { return peer->heard && !peer->left; }

/* ---- silence */

static Verdict judge_silence(const Peers *p, double now, char text[PEERS_TEXT]) {
  double limit = p->silence * (p->rank > 1 ? 1.25 : 1);
  char was[128], is[128];
  for (int r = 0; r < p->size; r++) {
    const Peer *peer = &p->peer[r];
    if (r == p->rank || !counts(peer) || now - peer->last <= limit) continue;
    snprintf(text, PEERS_TEXT,
             "rank %d on %s has not answered for %.0f s: it is stopped or lost (it last said that it %s); rank %d %s",
             r, peer->host, now - peer->last, doing(peer, was), p->rank, doing(&p->peer[p->rank], is));
    return VERDICT_END;
  }
  return VERDICT_NONE;
}

/* A rank that should be heard and never was, −1: none. */
static int unheard(const Peers *p) {
  for (int r = 0; r < (p->rank == 0 ? p->size : 1); r++)
    if (r != p->rank && !p->peer[r].heard) return r;
  return -1;
}

static Verdict judge_unheard(Peers *p, double now, char text[PEERS_TEXT]) {
  int r = unheard(p);
  if (p->rank > 0 || p->warned || now - p->start <= p->silence || r < 0) return VERDICT_NONE; /* rank 0 warns */
  snprintf(text, PEERS_TEXT,
           "no heartbeats (UDP) arrive from rank %d on %s: a stop or loss of such a rank is noticed only after "
           "dist.timeout = %g s",
           r, p->peer[r].host, p->timeout);
  p->warned = true;
  return VERDICT_WARN;
}

/* ---- no progress */

/* Of ranks without progress, the one that holds the others up: it waits for a file, or for no other rank; else the one
 * that is behind; else none, −1. */
static int culprit(const Peers *p) {
  int found = -1, behind = -1;
  int64_t most = -1;
  for (int r = 0; r < p->size; r++) {
    const Peer *peer = &p->peer[r];
    if (!counts(peer)) continue;
    if (peer->pulse.activity == ACTIVITY_IO) return r;
    if (!waits(peer) && found < 0) found = r;
    if (behind < 0 || peer->pulse.step < p->peer[behind].pulse.step) behind = r;
    if (peer->pulse.step > most) most = peer->pulse.step;
  }
  return found >= 0 ? found : p->peer[behind].pulse.step < most ? behind : -1;
}

static Verdict judge_progress(const Peers *p, double now, char text[PEERS_TEXT]) {
  const Peer *me = &p->peer[p->rank];
  bool waiting = false;
  char is[128], me_is[128];
  if (p->rank > 0 && p->peer[0].heard) return VERDICT_NONE; /* rank 0 sees all ranks and decides */
  for (int r = 0; r < p->size; r++) {
    if (!counts(&p->peer[r])) continue;
    if (now - p->peer[r].moved <= p->timeout) return VERDICT_NONE;
    waiting = waiting || waits(&p->peer[r]);
  }
  if (!waiting) return VERDICT_NONE;
  int who = culprit(p), lost = unheard(p),
      n = snprintf(text, PEERS_TEXT, "no progress for dist.timeout = %g s: ", p->timeout);
  size_t room = PEERS_TEXT - (size_t)n;
  if (who < 0 && lost >= 0)
    snprintf(text + n, room, "rank %d on %s was never heard; rank %d %s", lost, p->peer[lost].host, p->rank,
             doing(me, me_is));
  else if (who < 0)
    snprintf(text + n, room, "all ranks wait; rank %d on %s %s", p->rank, me->host, doing(me, me_is));
  else if (who == p->rank)
    snprintf(text + n, room, "rank %d on %s %s", who, me->host, doing(me, me_is));
  else
    snprintf(text + n, room, "rank %d on %s %s; rank %d %s", who, p->peer[who].host, doing(&p->peer[who], is), p->rank,
             doing(me, me_is));
  return VERDICT_END;
}

Verdict peers_judge(Peers *p, double now, char text[PEERS_TEXT]) {
  bool paused = now - p->judged > p->silence / 2;
  p->judged = now;
  for (int r = 0; r < p->size && paused; r++) p->peer[r].last = p->peer[r].moved = now;
  Verdict v = judge_silence(p, now, text);
  if (v == VERDICT_NONE) v = judge_progress(p, now, text);
  return v == VERDICT_NONE ? judge_unheard(p, now, text) : v;
}
