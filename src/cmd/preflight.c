/* The findings on ranks, hosts, network and memory, and the list of all. */
#include "cmd/preflight.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/shards.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static double mib(double bytes) { return bytes / (1024.0 * 1024.0); }

void preflight_stop(Preflight *p, int code, const char *fmt, ...) {
  va_list list;
  if (p->code) log_error("%s", p->line);
  p->code = code;
  va_start(list, fmt);
  vsnprintf(p->line, sizeof p->line, fmt, list);
  va_end(list);
}

/* ---- before a device is opened */

/* Mb/s of an interface, 0 if the system does not tell. */
static long interface_speed(const char *name) {
  char path[128];
  long speed = 0;
  snprintf(path, sizeof path, "/sys/class/net/%s/speed", name);
  FILE *f = fopen(path, "r");
  if (!f) return 0;
  if (fscanf(f, "%ld", &speed) != 1 || speed < 0) speed = 0;
  fclose(f);
  return speed;
}

/* IPv4 interfaces that are up, but for the loopback. */
static void list_interfaces(char *text, size_t size) {
  struct ifaddrs *list = NULL;
  size_t used = 0;
  *text = 0;
  if (getifaddrs(&list) != 0) return;
  for (const struct ifaddrs *i = list; i && used < size; i = i->ifa_next) {
    char address[INET_ADDRSTRLEN], speed[32] = "";
    if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET) continue;
    if (!(i->ifa_flags & IFF_UP) || i->ifa_flags & IFF_LOOPBACK) continue;
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)i->ifa_addr;
    inet_ntop(AF_INET, &in->sin_addr, address, sizeof address);
    long mb = interface_speed(i->ifa_name);
    if (mb > 0) snprintf(speed, sizeof speed, " %.3g Gb/s", (double)mb / 1000);
    used += (size_t)snprintf(text + used, size - used, "%s%s %s%s", used ? ", " : "", i->ifa_name, address, speed);
  }
  freeifaddrs(list);
}

int preflight_begin(Preflight *p, Comm *comm) {
  RankFacts mine = {.cores = sysconf(_SC_NPROCESSORS_ONLN)};
  cpu_set_t allowed;
  *p = (Preflight){.comm = comm};
  gethostname(mine.host, sizeof mine.host - 1);
  list_interfaces(mine.network, sizeof mine.network);
  mine.allowed = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : mine.cores;
  TRY_ALL(comm, comm->rank == 0 ? mem_alloc(&p->ranks, (size_t)comm->size * sizeof mine) : OK);
  TRY_ALL(comm, comm_gather(comm, p->ranks, &mine, sizeof mine, 0));
  return OK;
}

void preflight_end(Preflight *p) { mem_free(&p->ranks); }

/* ---- findings of rank 0 */

/* Ranks on the host of rank r, and whether r is the first of them. */
static int on_host(const Preflight *p, int r, bool *first) {
  int n = 0;
  *first = true;
  for (int i = 0; i < p->comm->size; i++) {
    if (strcmp(p->ranks[i].host, p->ranks[r].host) != 0) continue;
    n++;
    if (i < r) *first = false;
  }
  return n;
}

static void find_hosts(Preflight *p) {
  char text[300] = "";
  size_t used = 0;
  int hosts = 0, fewest = p->comm->size, most = 0;
  for (int r = 0; r < p->comm->size; r++) {
    bool first;
    int n = on_host(p, r, &first);
    if (!first) continue;
    hosts++;
    if (n < fewest) fewest = n;
    if (n > most) most = n;
    if (used < sizeof text)
      used += (size_t)snprintf(text + used, sizeof text - used, "%s%s (%d)", used ? ", " : "", p->ranks[r].host, n);
  }
  log_info("hosts      %d; ranks on each: %s%s", hosts, text, used < sizeof text ? "" : "…");
  if (fewest != most)
    log_warn("hosts: %d ranks on one, %d on another: the step takes as long as on the fuller one; give all the same "
             "number (--ntasks-per-node)",
             fewest, most);
}

static void find_cores(Preflight *p) {
  const RankFacts *f = &p->ranks[0];
  const Device *dev = &p->trainer->net.dev;
  bool first;
  int64_t here = on_host(p, 0, &first), threads = dev->threads, apart = p->comm->place.share_size == 1;
  log_info("cores      %lld of the %lld of %s for rank 0, %s; %lld thread%s a rank", (long long)f->allowed,
           (long long)f->cores, f->host, apart ? "its own" : "shared by the ranks there", (long long)threads,
           threads == 1 ? "" : "s");
  if (f->allowed == 1 && f->cores > here)
    log_warn("cores: every rank is bound to one core of %lld: start with mpirun --bind-to none, or give "
             "--cpus-per-task and SRUN_CPUS_PER_TASK",
             (long long)f->cores);
  if (threads * (apart ? 1 : here) > f->allowed)
    log_warn("cores: %lld threads share %lld cores: lower device.threads, or start fewer ranks a host",
             (long long)(threads * (apart ? 1 : here)), (long long)f->allowed);
}

static void find_device(Preflight *p) {
  const Trainer *t = p->trainer;
  log_info("device     %s: %s, %.3g TFLOP/s in matrix products", t->cfg->device_name, t->net.dev.ops->library(),
           t->peak / 1e12);
}

static void find_network(Preflight *p) {
  const RankFacts *f = &p->ranks[0];
  log_info("network    %s: %s", f->host, *f->network ? f->network : "no interface but the loopback");
  for (int r = 1; r < p->comm->size; r++)
    if (strcmp(p->ranks[r].host, f->host) != 0 && !*p->ranks[r].network != !*f->network) {
      log_warn("network: %s has an interface beside the loopback, %s has none",
               *f->network ? f->host : p->ranks[r].host, *f->network ? p->ranks[r].host : f->host);
      return;
    }
}

static void find_rows(Preflight *p) {
  const Trainer *t = p->trainer;
  const Config *cfg = t->cfg;
  int n = mixture_sets(t->train);
  for (int i = 0; i < n; i++) {
    double rows = (double)shards_rows(mixture_shards(t->train, i)), share = mixture_share(t->train, i);
    double batch = (double)cfg->train_global_batch * share;
    const char *name = n > 1 ? mixture_name(t->train, i) : "data.train";
    char part[32] = "";
    if (n > 1) snprintf(part, sizeof part, ", %.4g %% of the draws", 100 * share);
    log_info("rows       %.0f of %s%s: an epoch is %.3g steps, the run %.3g epochs", rows, name, part, rows / batch,
             (double)cfg->train_steps * batch / rows);
    if (rows < batch)
      log_warn("rows: %s has %.0f, a step takes %.10g: it sees rows twice; lower train.global_batch", name, rows,
               batch);
  }
  if (!t->valid) return;
  int64_t valid = shards_rows(t->valid);
  if (cfg->train_valid_sequences > 0 && cfg->train_valid_sequences < valid) valid = cfg->train_valid_sequences;
  if (valid < p->comm->size)
    log_warn("rows: a validation has %lld for %d ranks: %lld ranks wait meanwhile", (long long)valid, p->comm->size,
             (long long)(p->comm->size - valid));
}

/* The ranks of a host share its memory, and rank 0 copies the state that it saves. */
static void find_memory(Preflight *p) {
  bool first;
  const char *limit = getenv("SLURM_MEM_PER_NODE");
  double copy = p->state, here = on_host(p, 0, &first), all = here * p->resident + copy;
  double most = limit ? atof(limit) * 1024 * 1024 : (double)mem_total();
  log_info("memory     %.0f MiB expected on %s, of %.0f MiB%s", mib(all), p->ranks[0].host, mib(most),
           limit ? " that the job has asked for" : "");
  if (most > 0 && all > most)
    preflight_stop(p, ERR_MEMORY,
                   "memory: the %.0f ranks on %s and the saved copy take %.0f MiB, the host gives %.0f: lower "
                   "train.micro_batch, start fewer ranks a host%s",
                   here, p->ranks[0].host, mib(all), mib(most), limit ? ", or ask for more with --mem" : "");
  else if (copy > (double)mem_available())
    preflight_stop(p, ERR_MEMORY, "memory: rank 0 copies %.0f MiB of state to save it, and %s has %.0f MiB free",
                   mib(copy), p->ranks[0].host, mib((double)mem_available()));
}

/* ---- all ranks */

/* Bytes a second that a rank sends and receives in an all-reduce of buffers of a gradient's size. */
static int find_reduction(Preflight *p) {
  enum { TIMES = 3, MOST = 1 << 24 };
  Comm *comm = p->comm;
  size_t n = (size_t)p->trainer->net.model.params.count;
  float *x = NULL;
  double best = 1e30;
  if (comm->size == 1) return OK;
  if (n > MOST) n = MOST;
  TRY_ALL(comm, mem_alloc(&x, n * sizeof *x));
  int err = OK;
  for (int i = 0; i < TIMES && err == OK; i++) {
    err = comm_barrier(comm);
    double start = clock_now();
    if (err == OK) err = comm_all_reduce(comm, x, n, COMM_F32, COMM_SUM);
    double seconds = clock_now() - start;
    if (seconds < best) best = seconds;
  }
  mem_free(&x);
  if (err == OK) err = comm_max(comm, &best);
  TRY(err);
  double bytes = (double)(n * sizeof *x), ranks = comm->size;
  log_info("reduction  %.3g MiB over %d ranks in %.3g s: %.3g GB/s a rank; gradients of %.3g MiB, a step takes %.3g s",
           mib(bytes), comm->size, best, 2 * (ranks - 1) / ranks * bytes / best / 1e9,
           mib(4 * (double)p->trainer->net.model.params.count), p->step);
  double share = best * (double)p->trainer->net.model.params.count / (double)n / p->step;
  if (share > 0.5)
    log_warn("reduction: %.0f %% of a step is the sum of gradients; is MPI on the right network "
             "(OMPI_MCA_btl_tcp_if_include, OMPI_MCA_pml=ucx)? Else use fewer ranks or a larger train.global_batch",
             100 * share);
  return OK;
}

/* In this order; the later ones use what the earlier ones have found. */
static void (*const findings[])(Preflight *) = {find_hosts, find_cores,  find_device, find_network, find_rows,
                                                find_disk,  find_memory, find_locks,  find_time};

int preflight_run(Preflight *p) {
  TRY(find_reduction(p));
  p->state = trainer_groups(p->trainer) * sizeof(float) * (double)p->trainer->net.model.params.count;
  for (size_t i = 0; i < sizeof findings / sizeof *findings && p->comm->rank == 0; i++) findings[i](p);
  return comm_agree(p->comm, p->code ? RAISE(p->code, "%s", p->line) : OK);
}
