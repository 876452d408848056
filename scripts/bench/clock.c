// Runs a program and writes what it took to file descriptor 3: wall time in ns, user and system time
// in µs, the largest resident set of any of its processes in KiB, and its exit code.
//
// A program of its own, because a process that Python starts counts Python's memory as its own until
// it has been replaced, and because Python's start of a process would drown a runner of 2 ms.
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static long long us(struct timeval t) { return t.tv_sec * 1000000LL + t.tv_usec; }

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: clock PROGRAM [ARGUMENT]... 3>RESULT\n");
        return 2;
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addclose(&actions, 3);

    pid_t pid;
    long long begun = now();
    int error = posix_spawnp(&pid, argv[1], &actions, NULL, argv + 1, environ);
    if (error != 0) {
        fprintf(stderr, "%s: %s\n", argv[1], strerror(error));
        return 127;
    }
    int status;
    struct rusage used;
    if (wait4(pid, &status, 0, &used) != pid) {
        perror("wait4");
        return 2;
    }
    long long ended = now();
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    dprintf(3, "%lld %lld %lld %ld %d\n", ended - begun, us(used.ru_utime), us(used.ru_stime), used.ru_maxrss, code);
    return 0;
}
