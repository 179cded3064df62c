# program: threads
break at_rest
start_program
thread apply all -q frame function main
thread apply all -q frame function spins
thread apply all -q frame function waits
continue
print handled
continue
