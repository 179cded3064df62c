# program: single
# The program steps all the way, and sees neither that nor the breakpoint in its code.
break add
break depth
start_program
watch never
delete 2
continue
backtrace
delete
continue
