// Two seconds or so of what Go programs do: goroutines that allocate, talk over channels and are preempted by signals.
package main

import (
	"fmt"
	"sync"
)

func main() {
	words := make(chan map[int]string, 64)
	var group sync.WaitGroup
	for worker := 0; worker < 200; worker++ {
		group.Add(1)
		go func(worker int) {
			defer group.Done()
			for turn := 0; turn < 1200; turn++ {
				shelf := make(map[int]string)
				for book := 0; book < 20; book++ {
					shelf[book] = fmt.Sprintf("%d of %d", book, worker)
				}
				words <- shelf
			}
		}(worker)
	}
	go func() { group.Wait(); close(words) }()
	total := 0
	for shelf := range words {
		total += len(shelf)
	}
	fmt.Println(total)
}
