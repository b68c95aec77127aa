package main

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sort"
	"sync"
	"syscall"
	"time"
)

type node struct {
	l, r *node
	v    [4]int
}

func tree(d int) *node {
	if d == 0 {
		return &node{}
	}
	return &node{l: tree(d - 1), r: tree(d - 1)}
}
func (n *node) count() int {
	if n == nil {
		return 0
	}
	return 1 + n.l.count() + n.r.count()
}

func main() {
	fmt.Println("args", len(os.Args)-1, os.Args[1:])
	var wg sync.WaitGroup
	var mu sync.Mutex
	sum := 0
	for i := 0; i < 1000; i++ {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			mu.Lock()
			sum += i
			mu.Unlock()
		}(i)
	}
	wg.Wait()
	fmt.Println("goroutines", sum)
	ch := make(chan int)
	go func() {
		for i := 0; i < 10000; i++ {
			ch <- i
		}
		close(ch)
	}()
	n := 0
	for v := range ch {
		n += v
	}
	fmt.Println("channel", n)
	var stop int32
	go func() {
		for stop == 0 {
		}
	}()
	t := time.Now()
	time.Sleep(30 * time.Millisecond)
	fmt.Println("slept beside a spinner", time.Since(t) >= 30*time.Millisecond)
	stop = 1
	total := 0
	for i := 0; i < 20; i++ {
		total += tree(14).count()
	}
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	fmt.Println("gc", total, ms.NumGC > 0)
	m := map[string]int{}
	for i := 0; i < 5000; i++ {
		m[fmt.Sprint(i%977)] += i
	}
	keys := make([]string, 0)
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	fmt.Println("map", len(keys), keys[0], m[keys[0]])
	dir, err := os.MkdirTemp("", "g")
	if err != nil {
		fmt.Println(err)
	}
	f := filepath.Join(dir, "x")
	err = os.WriteFile(f, []byte("some words\n"), 0644)
	b, err2 := os.ReadFile(f)
	fmt.Printf("file %v %v %q\n", err, err2, b)
	es, err := os.ReadDir(dir)
	fmt.Println("dir", len(es), err, es[0].Name())
	fmt.Println("remove", os.RemoveAll(dir))
	_, err = os.Stat(f)
	fmt.Println("stat", os.IsNotExist(err))
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	syscall.Kill(os.Getpid(), syscall.SIGUSR1)
	fmt.Println("signal", <-c)
	func() {
		defer func() { fmt.Println("recovered", recover()) }()
		var p *node
		p.v[1] = 3
	}()
	select {
	case <-time.After(20 * time.Millisecond):
		fmt.Println("after")
	}
	r, w, _ := os.Pipe()
	go func() { time.Sleep(10 * time.Millisecond); w.Write([]byte("piped")); w.Close() }()
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		fmt.Println(sc.Text())
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		fmt.Println("in:", in.Text())
	}
	os.Exit(7)
}
