# program: exec
break in_child
start_program
backtrace
continue
