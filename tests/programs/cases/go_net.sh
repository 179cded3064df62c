# sandbox: prefixed
# needs: go
cat >m.go <<'END'
package main

import ("fmt"; "io"; "net"; "os"; "os/exec"; "runtime"; "sync"; "time")

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0"); if err != nil { panic(err) }
	go func() { for { c, err := l.Accept(); if err != nil { return }; go func() { io.Copy(c, c); c.Close() }() } }()
	var wg sync.WaitGroup; var mu sync.Mutex; total := 0
	for i := 0; i < 50; i++ { wg.Add(1); go func(n int) { defer wg.Done(); c, err := net.Dial("tcp", l.Addr().String()); if err != nil { panic(err) }; fmt.Fprintf(c, "%d", n); c.(*net.TCPConn).CloseWrite(); b, _ := io.ReadAll(c); mu.Lock(); total += len(b); mu.Unlock(); c.Close() }(i) }
	wg.Wait(); l.Close(); fmt.Println("bytes", total)
	done := make(chan bool); go func() { for i := 0; ; i++ { if i < 0 { return } } }(); go func() { time.Sleep(50 * time.Millisecond); done <- true }(); <-done; runtime.GC(); fmt.Println("preempted")
	out, err := exec.Command("sh", "-c", "echo child; exit 3").Output(); fmt.Printf("%s%v\n", out, err)
	func() { defer func() { fmt.Println(recover()) }(); var p *int; fmt.Println(*p) }(); os.Exit(4)
}
END
export GOCACHE=$HOME/cache GO111MODULE=off; go build -o m m.go || exit; rm m.go; $RUN ./m; echo "status $?"; rm m
