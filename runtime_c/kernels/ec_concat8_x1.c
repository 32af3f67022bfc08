/* concat of up to eight tensors, in bytes, portable C99.
 *
 * `outer` times: bytes_0 of x0, bytes_1 of x1, ...; an unused part has 0 bytes. Any type; no
 * alignment asked, no scratch, no rounding. Equals concat of edgec/ops/joining.py.
 */
#include <string.h>

#include "ec_shape.h"

void ec_concat8_x1(const ec_parts_params *p, const void *x0, const void *x1, const void *x2,
                   const void *x3, const void *x4, const void *x5, const void *x6, const void *x7,
                   void *y)
{
    const uint8_t *from[8] = {x0, x1, x2, x3, x4, x5, x6, x7};
    const int32_t bytes[8] = {p->bytes_0, p->bytes_1, p->bytes_2, p->bytes_3,
                              p->bytes_4, p->bytes_5, p->bytes_6, p->bytes_7};
    uint8_t *to = y;
    for (int32_t i = 0; i < p->outer; i++) {
        for (int32_t part = 0; part < 8; part++) {
            memcpy(to, from[part], (size_t)bytes[part]);
            from[part] += bytes[part];
            to += bytes[part];
        }
    }
}
