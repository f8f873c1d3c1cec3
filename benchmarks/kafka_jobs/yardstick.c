/* Reads a topic to its end with librdkafka alone and touches each value: LIBRARY BROKER TOPIC PARTITIONS RECORDS.
 *
 * The wheel carries the library and not its header: what is needed of it is declared here, as rdkafka.h has it. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BATCH 10000
#define CONSUMER 1 /* RD_KAFKA_CONSUMER */
#define PARTITION_EOF -191

typedef struct {
    int err;
    void *topic;
    int32_t partition;
    void *payload;
    size_t len;
    void *key;
    size_t key_len;
    int64_t offset;
    void *private_;
} message;

typedef struct {
    char *topic;
    int32_t partition;
    int64_t offset;
} topic_partition; /* its first fields */

static void *library;

static void *function(const char *name) {
    void *found = dlsym(library, name);
    if (found == NULL) {
        fprintf(stderr, "yardstick: %s\n", dlerror());
        exit(1);
    }
    return found;
}

static void fail(const char *what) {
    fprintf(stderr, "yardstick: %s\n", what);
    exit(1);
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + 1e-9 * now.tv_nsec;
}

static long peak_kib(void) {
    char line[256];
    long peak = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL)
        sscanf(line, "VmHWM: %ld", &peak);
    if (status != NULL)
        fclose(status);
    return peak;
}

int main(int argc, char **argv) {
    if (argc != 6)
        fail("LIBRARY BROKER TOPIC PARTITIONS RECORDS");
    library = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
    if (library == NULL)
        fail(dlerror());
    void *(*conf_new)(void) = function("rd_kafka_conf_new");
    int (*conf_set)(void *, const char *, const char *, char *, size_t) = function("rd_kafka_conf_set");
    void *(*new)(int, void *, char *, size_t) = function("rd_kafka_new");
    void *(*list_new)(int) = function("rd_kafka_topic_partition_list_new");
    topic_partition *(*list_add)(void *, const char *, int32_t) = function("rd_kafka_topic_partition_list_add");
    int (*assign)(void *, const void *) = function("rd_kafka_assign");
    void *(*queue_of)(void *) = function("rd_kafka_queue_get_consumer");
    ssize_t (*consume)(void *, int, message **, size_t) = function("rd_kafka_consume_batch_queue");
    void (*destroy)(message *) = function("rd_kafka_message_destroy");
    const char *(*text_of)(int) = function("rd_kafka_err2str");
    const char *(*version)(void) = function("rd_kafka_version_str");

    /* As the yardstick in Python. */
    const char *options[][2] = {
        {"bootstrap.servers", argv[2]},      {"group.id", "yardstick-c"},
        {"enable.auto.commit", "false"},     {"auto.offset.reset", "earliest"},
        {"isolation.level", "read_committed"}, {"fetch.queue.backoff.ms", "10"},
    };
    char error[512];
    void *conf = conf_new();
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (conf_set(conf, options[i][0], options[i][1], error, sizeof error) != 0)
            fail(error);
    void *client = new(CONSUMER, conf, error, sizeof error);
    if (client == NULL)
        fail(error);
    void *list = list_new(atoi(argv[4]));
    for (int partition = 0; partition < atoi(argv[4]); partition++)
        list_add(list, argv[3], partition)->offset = 0;
    int refused = assign(client, list);
    if (refused)
        fail(text_of(refused));

    void *queue = queue_of(client);
    static message *messages[BATCH];
    long records = atol(argv[5]), seen = 0;
    uint64_t bytes = 0, sum = 0;
    double began = seconds(), quiet_since = began;
    while (seen < records) {
        ssize_t n = consume(queue, 100, messages, BATCH);
        if (n > 0)
            quiet_since = seconds();
        else if (seconds() - quiet_since > 60)
            fail("no record has come for 60 s");
        for (ssize_t i = 0; i < n; i++) {
            if (messages[i]->err && messages[i]->err != PARTITION_EOF)
                fail(text_of(messages[i]->err));
            if (!messages[i]->err) {
                bytes += messages[i]->len;
                sum += messages[i]->len ? *(unsigned char *)messages[i]->payload : 0;
                seen++;
            }
            destroy(messages[i]);
        }
    }
    double took = seconds() - began;
    printf("{\"records\": %ld, \"seconds\": %.3f, \"records_per_s\": %.0f, \"peak_rss_mb\": %ld, \"bytes\": %llu, \"version\": \"%s\"}\n", seen,
           took, seen / took, peak_kib() / 1024, (unsigned long long)bytes, version());
    fflush(stdout);
    /* Of the values something had to be read; closing the client is not measured, as in the others. */
    _Exit(sum == 0 && bytes > 0);
}
