/* lwIP as the runtime has it: no threads of its own (NO_SYS), its raw interface, IPv4, memory from
 * the runtime. */
#ifndef GUESTS_RUNTIME_NET_LWIPOPTS_H
#define GUESTS_RUNTIME_NET_LWIPOPTS_H

#define NO_SYS               1
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_SOCKET          0
#define LWIP_NETCONN         0
#define LWIP_IPV4            1
#define LWIP_IPV6            0
#define LWIP_STATS           0
#define LWIP_RAW             0
#define LWIP_ICMP            1
#define LWIP_TIMERS_CUSTOM   1 /* timers.c */

/* memory.c: no pools of a fixed size */
#define MEM_LIBC_MALLOC          1
#define MEMP_MEM_MALLOC          1
#define mem_clib_malloc          net_malloc
#define mem_clib_calloc          net_calloc
#define mem_clib_free            net_free
#define MEM_ALIGNMENT            8
#define PBUF_POOL_BUFSIZE        3968 /* with its header less than a page */
#define LWIP_SUPPORT_CUSTOM_PBUF 1

/* The MTU bounds what a segment really has; passt's is 65520. */
#define TCP_MSS                            65480
#define TCP_WND                            net_window /* interface.c: by the card */
#define LWIP_WND_SCALE                     1
#define TCP_RCV_SCALE                      5
#define TCP_SND_BUF                        (2048u << 10)
#define TCP_SND_QUEUELEN                   16384
#define TCP_SNDLOWAT                       (64u << 10)
#define TCP_SNDQUEUELOWAT                  64
#define TCP_OVERSIZE                       0
#define TCP_LISTEN_BACKLOG                 1
#define TCP_DEFAULT_LISTEN_BACKLOG         128
#define TCP_QUEUE_OOSEQ                    1
#define LWIP_TCP_SACK_OUT                  1
#define LWIP_TCP_KEEPALIVE                 1
#define TCP_MSL                            15000 /* a closed connection stays for twice that */
#define TCP_TMR_INTERVAL                   50 /* half of the tick that retransmission counts in */
#define SO_REUSE                           1
#define LWIP_DISABLE_TCP_SANITY_CHECKS     1 /* they compare with pools we have not */
#define LWIP_RANDOMIZE_INITIAL_LOCAL_PORTS 1
#define LWIP_HOOK_FILENAME                 "guests/runtime/net/hooks.h"

#define LWIP_UDP           1
#define IP_SOF_BROADCAST   1
#define IP_REASSEMBLY      1
#define IP_REASS_MAX_PBUFS 512
#define IP_FRAG            1

#define LWIP_ARP                      1
#define ARP_TABLE_SIZE                64
#define ARP_QUEUEING                  1
#define ARP_QUEUE_LEN                 128 /* many connections begin at once, as one is made */
#define ETHARP_SUPPORT_STATIC_ENTRIES 0
#define LWIP_DHCP                     1
#define DHCP_DOES_ARP_CHECK           0
/* DHCP's servers go into /etc/resolv.conf: interface.c stands in for lwIP's own resolver. */
#define LWIP_DNS                   1
#define DNS_MAX_SERVERS            3
#define LWIP_DHCP_MAX_DNS_SERVERS  3
#define LWIP_NETIF_HOSTNAME        1
#define LWIP_NETIF_STATUS_CALLBACK 1
#define LWIP_NETIF_LINK_CALLBACK   0
#define LWIP_HAVE_LOOPIF           1
#define LWIP_NETIF_LOOPBACK        1
#define LWIP_LOOPBACK_MAX_PBUFS    0

/* A device's offloads decide, per interface and frame. */
#define LWIP_CHECKSUM_CTRL_PER_NETIF 1
#define LWIP_CHKSUM                  net_checksum

#endif
