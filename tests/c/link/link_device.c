/*
 * link_device.c: the network of link_model.h as a firmware: on a workstation over standard input
 * and output, on an emulated board over its UART.
 */
#include "ec_link_port.h"
#include "link_model.h"

#if defined(__arm__)
#include "ec_port.h"
#endif

#define PAYLOAD 512u
#define BUFFER (PAYLOAD + EC_LINK_FRAME_BYTES)
#define KEPT 64u

static link_model model;
static uint8_t receive[BUFFER];
static uint8_t answer[BUFFER];
static uint8_t replay[KEPT * (FEATURES * 4 + 4)];
static ec_link device;

static int serve(void) {
    ec_link_model table;
    ec_link_memory memory;
    int32_t byte;
    memory.receive = receive;
    memory.answer = answer;
    memory.buffer_bytes = BUFFER;
    memory.replay = replay;
    memory.replay_bytes = (uint32_t)sizeof replay;
    link_model_init(&model);
    table = link_model_table(&model);
    ec_link_port_open();
    if (ec_link_init(&device, &table, &memory, ec_link_port_write, NULL, ec_link_port_seed()) !=
        EC_OK) {
        return 1;
    }
    while ((byte = ec_link_port_read()) >= 0) {
        const ec_link_frame *request = ec_link_receive(&device, (uint8_t)byte);
        if (request != NULL) {
            ec_link_answer(&device, request);
        }
    }
    return 0;
}

#if defined(__arm__)
int ec_main(void) {
    return serve();
}
#else
int main(void) {
    return serve();
}
#endif
