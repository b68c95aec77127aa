// Go's net package on the loopback: its poller, deadlines, many goroutines. The same lines on the
// host and in a guest.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

func serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			io.Copy(c, c)
			c.Close()
		}()
	}
}

func echo(address string, fill byte) bool {
	c, err := net.Dial("tcp4", address)
	if err != nil {
		return false
	}
	defer c.Close()
	sent := bytes.Repeat([]byte{fill}, 100000)
	go func() {
		c.Write(sent)
		c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	return err == nil && bytes.Equal(got, sent)
}

func main() {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	go serve(l)
	var all sync.WaitGroup
	var good int64
	for i := 0; i < 40; i++ {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			for k := 0; k < 5; k++ {
				if echo(l.Addr().String(), byte(i)) {
					atomic.AddInt64(&good, 1)
				}
			}
		}(i)
	}
	all.Wait()
	fmt.Println("echoed", good)
	l.Close()
	_, err = net.Dial("tcp4", "127.0.0.1:1")
	fmt.Println(err)
	u, _ := net.ListenPacket("udp4", "127.0.0.1:0")
	d, _ := net.Dial("udp4", u.LocalAddr().String())
	d.Write([]byte("datagram"))
	b := make([]byte, 100)
	n, _, _ := u.ReadFrom(b)
	fmt.Println(string(b[:n]))
	u.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	_, _, err = u.ReadFrom(b)
	fmt.Println(err.(net.Error).Timeout())
}
