/*
 * uart_cmsdk.c: the link over the CMSDK APB UART (Arm DDI 0479D, 4.3) of the MPS2 and MPS3 boards
 * and of QEMU's models of them: 8 data bits, no parity, one stop bit, polled.
 *
 * -DEC_UART_BASE gives the address, -DEC_UART_CLOCK_HZ and -DEC_UART_BAUD the divider; without
 * the latter two the divider is the smallest, 16, which QEMU does not care about.
 */
#include "ec_link_port.h"

#if !defined(EC_UART_BASE)
#error "define EC_UART_BASE"
#endif

#if defined(EC_UART_CLOCK_HZ) && defined(EC_UART_BAUD)
#define DIVIDER ((EC_UART_CLOCK_HZ + EC_UART_BAUD / 2u) / EC_UART_BAUD)
#else
#define DIVIDER 16u
#endif

#define REG(offset) (*(volatile uint32_t *)(EC_UART_BASE + (offset)))
#define DATA REG(0x00u)
#define STATE REG(0x04u)
#define CTRL REG(0x08u)
#define BAUDDIV REG(0x10u)
#define STATE_TX_FULL 1u
#define STATE_RX_FULL 2u
#define CTRL_TX_RX 3u

void ec_link_port_open(void) {
    BAUDDIV = DIVIDER;
    CTRL = CTRL_TX_RX;
}

int32_t ec_link_port_read(void) {
    while ((STATE & STATE_RX_FULL) == 0u) {
    }
    return (int32_t)(DATA & 0xFFu);
}

void ec_link_port_write(void *context, const uint8_t *bytes, uint32_t count) {
    uint32_t i;
    (void)context;
    for (i = 0; i < count; i++) {
        while ((STATE & STATE_TX_FULL) != 0u) {
        }
        DATA = bytes[i];
    }
}

uint32_t ec_link_port_seed(void) {
    return 0; /* the host's numbers alone tell sessions apart */
}
