module depthserve/bench/peers/load

go 1.24
