/*
 * timer.h: the timer by which instructions are counted; one of the three is chosen by
 * -DEC_TIMER_<KIND>=1.
 */
#ifndef EC_TIMER_H
#define EC_TIMER_H

void ec_timer_init(void);
void ec_timer_interrupt(void); /* SysTick */

#endif
