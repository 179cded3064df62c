# program: single
break touch
start_program
awatch watched.word
continue
continue
continue
continue
continue
continue
continue
backtrace 1
delete
continue
