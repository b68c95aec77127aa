/* The network card: virtio-net, driver side. */
#ifndef GUESTS_RUNTIME_NET_NIC_H
#define GUESTS_RUNTIME_NET_NIC_H

#include "guests/runtime/runtime.h"
#include "lwip/netif.h"

/* lwIP's init function of the interface: ERR_IF: there is no card. */
err_t nic_start(struct netif *netif);
/* What was received goes up, what was sent is let go. */
void nic_poll(struct netif *netif);
/* Forget what the card has sent. How many frames it still has. */
unsigned nic_reclaim(void);
/* Bytes a TCP segment may have when the card cuts it up; 0: it does not. */
unsigned nic_segment_limit(void);
/* A page whose bytes a frame on its way may still show: freed when that is gone. */
void nic_page_done(void *page);

#endif
