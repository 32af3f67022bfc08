/* ec_crc32.h: CRC-32 of IEEE 802.3 (reflected polynomial 0xEDB88320, as zlib's crc32). */
#ifndef EC_CRC32_H
#define EC_CRC32_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* CRC of `data` after bytes whose CRC is `crc`; 0 before the first byte. */
uint32_t ec_crc32(uint32_t crc, const void *data, uint32_t bytes);

#ifdef __cplusplus
}
#endif

#endif
