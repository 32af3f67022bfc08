/*
 * ec_link_port.h: the bytes of the link, as a firmware's main asks for them. Each port
 * (uart_cmsdk.c, stdio.c, or one for a board) implements all of it.
 */
#ifndef EC_LINK_PORT_H
#define EC_LINK_PORT_H

#include <stdint.h>

#include "ec_flash.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Makes the line ready. */
void ec_link_port_open(void);

/* The next byte from the host, waiting for it; -1 where there will be none. */
int32_t ec_link_port_read(void);

/* Sends all bytes; an ec_link_send. */
void ec_link_port_write(void *context, const uint8_t *bytes, uint32_t count);

/*
 * The flash where weights are saved: EC_FLASH_SECTORS sectors of EC_FLASH_SECTOR_BYTES. Called
 * once. NULL where it cannot be had.
 */
const ec_flash *ec_link_port_flash(void);

/* A number that differs from one start to the next where the port has one, else 0. */
uint32_t ec_link_port_seed(void);

#ifdef __cplusplus
}
#endif

#endif
