#include "dist/watch.h"
#include "base/activity.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "dist/peers.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ADDRESSES = 16, PULSE_ROOM = 4096 };  /* bytes that the system needs to keep a datagram, and more */
static const double PERIOD = 1, PERIODS = 5; /* seconds between pulses; at least so many in the time of silence */

typedef struct Invitation { /* of rank 0 to the others */
  uint64_t token;
  int32_t n; /* 0: rank 0 has no socket */
  struct sockaddr_in address[ADDRESSES];
  char host[PEERS_HOST];
} Invitation;

typedef struct Watch {
  bool runs;
  pthread_t thread;
  int socket, wake; /* wake: an event that ends the thread */
  Peers peers;
  Invitation rank0;
  struct sockaddr_in *from; /* [size] where pulses of a rank come from; port 0: none yet */
} Watch;

static Watch w = {.socket = -1, .wake = -1};

/* ---- the thread */

static void send_to(const Pulse *p, const struct sockaddr_in *to) {
  sendto(w.socket, p, sizeof *p, MSG_DONTWAIT, (const struct sockaddr *)to, sizeof *to);
}

/* To rank 0: at all its addresses until it has answered, and again when it falls silent. */
static void send_to_rank0(const Pulse *p, double now) {
  const Peer *rank0 = &w.peers.peer[0];
  if (rank0->heard) send_to(p, &w.from[0]);
  if (rank0->heard && now - rank0->last < w.peers.silence / 2) return;
  for (int i = 0; i < w.rank0.n; i++) send_to(p, &w.rank0.address[i]);
}

static void send_to_all(const Pulse *p) {
  for (int r = 1; r < w.peers.size; r++)
    if (w.from[r].sin_port) send_to(p, &w.from[r]);
}

static Pulse pulse_now(PulseKind kind) {
  Activity a = activity_now();
  return pulse_of(w.rank0.token, w.peers.rank, kind, &a);
}

/* Takes all pulses that have arrived. */
static void receive(double now) {
  Pulse p;
  struct sockaddr_in from = {0};
  socklen_t size = sizeof from;
  int me = w.peers.rank;
  while (recvfrom(w.socket, &p, sizeof p, MSG_DONTWAIT, (struct sockaddr *)&from, &size) == sizeof p) {
    size = sizeof from;
    bool fits = p.token == w.rank0.token && p.rank >= 0 && p.rank < w.peers.size && p.rank != me;
    if (!fits || (me > 0 && p.rank > 0)) continue;
    if (p.kind == PULSE_END) _exit(ERR_COMM); /* rank 0 has printed why */
    p.what[sizeof p.what - 1] = '\0';
    if (p.activity < ACTIVITY_COMPUTE || p.activity > ACTIVITY_DEVICE) p.activity = ACTIVITY_COMPUTE;
    peers_hear(&w.peers, &p, now);
    w.from[p.rank] = from;
    if (me == 0) p = pulse_now(PULSE_ALIVE), send_to(&p, &from);
  }
}

static void judge(double now) {
  char text[PEERS_TEXT];
  Pulse me = pulse_now(PULSE_ALIVE);
  peers_hear(&w.peers, &me, now);
  Verdict v = peers_judge(&w.peers, now, text);
  if (v == VERDICT_NONE) return;
  log_urgent(v == VERDICT_END, text);
  if (v != VERDICT_END) return;
  me = pulse_now(PULSE_END);
  if (w.peers.rank == 0) send_to_all(&me);
  _exit(ERR_COMM); /* MPI_Abort belongs to the main thread, which may hang */
}

static void *watch_run(void *arg) {
  (void)arg;
  double silence = w.peers.silence, period = silence < PERIODS * PERIOD ? silence / PERIODS : PERIOD, next = 0;
  struct pollfd events[2] = {{.fd = w.wake, .events = POLLIN}, {.fd = w.socket, .events = POLLIN}};
  while (!(events[0].revents & POLLIN)) {
    double now = clock_now();
    receive(now);
    if (now >= next) {
      Pulse me = pulse_now(PULSE_ALIVE);
      if (w.peers.rank > 0) send_to_rank0(&me, now);
      judge(now);
      next = now + period;
    }
    poll(events, 2, 1 + (int)(1000 * (next - now)));
  }
  return NULL;
}

/* ---- start and end */

/* Rank 0's addresses: its interfaces that are up, the loopback too, which ranks on its host may need. */
static void list_addresses(Invitation *me, in_port_t port) {
  struct ifaddrs *list = NULL;
  if (getifaddrs(&list) != 0) return;
  for (const struct ifaddrs *i = list; i && me->n < ADDRESSES; i = i->ifa_next) {
    if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || !(i->ifa_flags & IFF_UP)) continue;
    memcpy(&me->address[me->n], i->ifa_addr, sizeof me->address[0]);
    me->address[me->n++].sin_port = port;
  }
  freeifaddrs(list);
}

/* Without a socket or an address the watchdog goes on; it warns that it hears nothing. */
static void invite(Invitation *me) {
  struct sockaddr_in any = {.sin_family = AF_INET};
  socklen_t size = sizeof any;
  if (getrandom(&me->token, sizeof me->token, GRND_NONBLOCK) < 0) me->token = (uint64_t)(1e9 * clock_now());
  if (bind(w.socket, (struct sockaddr *)&any, size) == 0 && getsockname(w.socket, (struct sockaddr *)&any, &size) == 0)
    list_addresses(me, any.sin_port);
}

/* Rank 0's invitation to all, and the names of the hosts to rank 0. */
static int introduce(Comm *comm) {
  char mine[PEERS_HOST] = "", *hosts = NULL;
  gethostname(mine, sizeof mine - 1);
  if (comm->rank == 0) invite(&w.rank0);
  memcpy(w.rank0.host, mine, sizeof mine);
  TRY(comm_broadcast(comm, &w.rank0, sizeof w.rank0, 0));
  TRY_ALL(comm, mem_alloc(&hosts, (size_t)comm->size * sizeof mine));
  int err = comm_gather(comm, hosts, mine, sizeof mine, 0);
  for (int r = 0; r < comm->size && comm->rank == 0; r++)
    memcpy(w.peers.peer[r].host, hosts + (size_t)r * sizeof mine, sizeof mine);
  memcpy(w.peers.peer[0].host, w.rank0.host, sizeof mine);
  memcpy(w.peers.peer[comm->rank].host, mine, sizeof mine);
  mem_free(&hosts);
  return err;
}

static int create(const Comm *comm, double timeout, double silence) {
  w.wake = eventfd(0, EFD_CLOEXEC);
  CHECK(w.wake >= 0, ERR_MEMORY, "the watchdog gets no event from the system; dist.timeout = 0 does without it");
  w.socket = comm->size > 1 ? socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
  int room = comm->rank == 0 ? comm->size * PULSE_ROOM : PULSE_ROOM; /* all ranks may send at the same moment */
  if (w.socket >= 0) setsockopt(w.socket, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
  TRY(mem_alloc(&w.from, (size_t)comm->size * sizeof *w.from));
  return peers_create(&w.peers, comm->rank, comm->size, silence, timeout, clock_now());
}

int watch_start(Comm *comm, double timeout, double silence) {
  activity_follow();
  if (timeout <= 0) return OK;
  int err = comm_agree(comm, create(comm, timeout, silence));
  if (err == OK) err = introduce(comm);
  if (err != OK) return err;
  err = thread_start(&w.thread, watch_run, NULL, "watchdog");
  w.runs = err == OK;
  return comm_agree(comm, err);
}

void watch_stop(void) {
  if (!w.runs) return;
  w.runs = false;
  uint64_t one = 1;
  if (write(w.wake, &one, sizeof one) != sizeof one) return; /* the process ends, and the thread with it */
  pthread_join(w.thread, NULL);
  Pulse me = pulse_now(PULSE_LEAVES);
  if (w.peers.rank > 0)
    send_to_rank0(&me, clock_now());
  else
    send_to_all(&me);
  if (w.socket >= 0) close(w.socket);
  close(w.wake);
  mem_free(&w.from);
  peers_destroy(&w.peers);
}
